"""Records in XMP packets, whose other contents do not change."""

import pytest

from restore_cli.imaging.codecs.xmp import EMPTY, record_in, with_record, without_record

RECORD = '{"source":"a & <b>.png","quality":null}'
PACKET = EMPTY.replace(
    b"</rdf:RDF>",
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="x"/>'
    b"</rdf:RDF>",
)


@pytest.mark.parametrize("packet", [None, PACKET], ids=["none", "the user's"])
def test_a_record_comes_back_out(packet):
    assert record_in(with_record(packet, RECORD)) == RECORD


@pytest.mark.parametrize("packet", [None, PACKET], ids=["none", "the user's"])
def test_the_packet_is_what_it_was_once_the_record_is_out(packet):
    assert without_record(with_record(packet, RECORD)) == packet


def test_a_new_record_takes_the_place_of_the_old_one():
    twice = with_record(with_record(PACKET, "old"), "new")
    assert twice == with_record(PACKET, "new")


@pytest.mark.parametrize(
    "written",
    [
        "<rdf:Description\n xmlns:restore='urn:restore-cli:record/'>"
        "<restore:record>{}</restore:record></rdf:Description>",
        '<rdf:Description restore:record="{}"/>',
    ],
    ids=["an element", "an attribute"],
)
def test_a_record_is_found_where_another_program_has_written_it(written):
    packet = PACKET.replace(b"</rdf:RDF>", written.format("a &amp; b").encode() + b"</rdf:RDF>")
    assert record_in(packet) == "a & b"
    assert record_in(without_record(packet)) is None


@pytest.mark.parametrize(
    "packet",
    [PACKET.decode().encode("utf-16"), PACKET.replace(b"rdf:", b"r:"), b"no packet"],
    ids=["UTF-16", "another prefix", "something else"],
)
def test_a_packet_of_another_form_is_left_alone(packet):
    assert with_record(packet, RECORD) is None
    assert without_record(packet) == packet
    assert record_in(packet) is None


def test_a_packet_is_well_formed_xml():
    from xml.etree import ElementTree

    packet = with_record(PACKET, RECORD)
    tree = ElementTree.fromstring(packet[packet.index(b"<x:") : packet.rindex(b"<?")])
    assert tree.find(".//{urn:restore-cli:record/}record").text == RECORD
