"""Records in XMP packets, whose other contents do not change."""

import pytest

from restore_cli.imaging.codecs.xmp import (
    EMPTY,
    record_in,
    with_record,
    with_size,
    without_record,
    without_stale,
)

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


NAMES = {
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "GDepth": "http://ns.google.com/photos/1.0/depthmap/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
}


def packet_of(attributes="", elements="", names=NAMES):
    declared = " ".join(
        f'xmlns:{prefix}="{space}"'
        for prefix, space in names.items()
        if f"{prefix}:" in attributes + elements
    )
    return EMPTY.replace(
        b"</rdf:RDF>",
        f'<rdf:Description rdf:about="" {declared} {attributes}>{elements}'
        "</rdf:Description></rdf:RDF>".encode(),
    )


def properties(packet):
    """{(namespace, name): value} of all properties, parsed as XML."""
    from xml.etree import ElementTree

    tree = ElementTree.fromstring(packet[packet.index(b"<x:") : packet.rindex(b"<?")])
    found = {}
    for element in tree.iter():
        found[element.tag] = (element.text or "").strip()
        found |= element.attrib
    return {
        tuple(name[1:].split("}")): value
        for name, value in found.items()
        if name[0] == "{" and "rdf-syntax" not in name and "adobe:ns:meta" not in name
    }


CONTAINER = (
    "<Container:Directory><rdf:Seq><rdf:li rdf:parseType='Resource'>"
    "<Container:Item Item:Semantic='GainMap' Item:Mime='image/jpeg' Item:Length='7'/>"
    "</rdf:li></rdf:Seq></Container:Directory>"
)


@pytest.mark.parametrize(
    ("attributes", "elements", "losses"),
    [
        ("hdrgm:Version=\"1.0\"\n hdrgm:GainMapMax = '2'", "", []),
        ("", "<hdrgm:GainMapMax><rdf:Seq><rdf:li>1</rdf:li></rdf:Seq></hdrgm:GainMapMax>", []),
        ("", CONTAINER, []),
        ('GCamera:MicroVideo="1" GCamera:MicroVideoOffset="99"', "", []),
        ("", "<GCamera:MotionPhoto>1</GCamera:MotionPhoto>", []),
        ('GDepth:Format="RangeInverse"', "<GDepth:Data>AAAA</GDepth:Data>", ["its depth map"]),
        ("", "<xmp:Thumbnails><rdf:Alt><rdf:li/></rdf:Alt></xmp:Thumbnails>", []),
        ('photoshop:ColorMode="4" photoshop:ICCProfile="Coated"', "", []),
        ('tiff:PhotometricInterpretation="5" tiff:SamplesPerPixel="4"', "", []),
    ],
)
def test_what_told_of_the_rest_of_a_file_is_taken_out(attributes, elements, losses):
    packet = packet_of(attributes + ' xmp:Rating="4"', elements + "<dc:title>Mine</dc:title>")
    cleaned, dropped = without_stale(packet, upright=True)
    assert properties(cleaned) == {
        (NAMES["xmp"], "Rating"): "4",
        (NAMES["dc"], "title"): "Mine",
    }
    assert dropped == losses


def test_a_prefix_is_known_by_its_namespace():
    names = {"g": NAMES["hdrgm"], "hdrgm": "urn:of-another"}
    packet = packet_of('g:Version="1.0" hdrgm:Version="2"', names=names)
    cleaned, _ = without_stale(packet, upright=True)
    assert properties(cleaned) == {("urn:of-another", "Version"): "2"}


@pytest.mark.parametrize("packet", [PACKET, packet_of('xmp:Rating="4" GCamera:BurstID="7"')])
def test_a_packet_without_stale_properties_is_kept_byte_for_byte(packet):
    assert without_stale(packet, upright=True) == (packet, [])
    assert with_size(packet, 20, 30, "png") == packet


def test_a_damaged_packet_with_stale_properties_is_dropped_at_once():
    packet = packet_of("", "<hdrgm:Version>" * 50_000)  # the search would take hours
    assert without_stale(packet, upright=True) == (None, ["its XMP, which is damaged"])


def test_padding_of_a_packet_is_passed_in_linear_time():
    packet = packet_of('hdrgm:Version="1.0"', " " * 3_000_000)
    assert properties(without_stale(packet, upright=True)[0]) == {}


@pytest.mark.parametrize("form", ["attributes", "elements"])
def test_sizes_are_those_of_the_image(form):
    sizes = {
        "tiff:ImageWidth": 64,
        "tiff:ImageLength": 48,
        "exif:PixelXDimension": 64,
        "exif:PixelYDimension": 48,
    }
    if form == "attributes":
        packet = packet_of(" ".join(f"{name}='{value}'" for name, value in sizes.items()))
    else:
        packet = packet_of("", "".join(f"<{key}>{value}</{key}>" for key, value in sizes.items()))
    found = properties(with_size(packet, 96, 128, "png"))
    assert list(found.values()) == ["128", "96", "128", "96"]


@pytest.mark.parametrize("form", ["attributes", "elements"])
def test_a_panorama_grows_with_the_image(form):
    sizes = {
        "FullPanoWidthPixels": "128",
        "FullPanoHeightPixels": "64",
        "CroppedAreaImageWidthPixels": "64",
        "CroppedAreaImageHeightPixels": "48.0",
        "CroppedAreaLeftPixels": "32",
        "CroppedAreaTopPixels": "8",
        "InitialViewHeadingDegrees": "90",
    }
    if form == "attributes":
        packet = packet_of(" ".join(f'GPano:{name}="{value}"' for name, value in sizes.items()))
    else:
        elements = (f"<GPano:{name}>{value}</GPano:{name}>" for name, value in sizes.items())
        packet = packet_of("", "".join(elements))
    found = properties(with_size(packet, 144, 192, "jpeg"))
    assert list(found.values()) == ["384", "192", "192", "144", "96", "24", "90"]


def test_a_whole_sphere_grows_with_the_image():
    packet = packet_of('GPano:FullPanoWidthPixels="128" GPano:FullPanoHeightPixels="64"')
    found = properties(with_size(packet, 128, 256, "jpeg"))
    assert list(found.values()) == ["256", "128"]


REGIONS = (
    '<mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:AppliedToDimensions {}'
    "<mwg-rs:RegionList><rdf:Bag/></mwg-rs:RegionList></mwg-rs:Regions>"
)


@pytest.mark.parametrize(
    "dimensions",
    [
        'stDim:w="64" stDim:h="48" stDim:unit="pixel"/>',
        'rdf:parseType="Resource"><stDim:w>64</stDim:w><stDim:h>48</stDim:h>'
        "<stDim:unit>pixel</stDim:unit></mwg-rs:AppliedToDimensions>",
    ],
    ids=["attributes", "elements"],
)
def test_regions_apply_to_the_size_of_the_image(dimensions):
    packet = packet_of("", REGIONS.format(dimensions))
    found = properties(with_size(packet, 96, 128, "jpeg"))
    assert (found[NAMES["stDim"], "w"], found[NAMES["stDim"], "h"]) == ("128", "96")


def test_places_do_not_go_with_an_image_that_is_turned():
    regions = REGIONS.format("/>")
    packet = packet_of('GPano:FullPanoWidthPixels="128" xmp:Rating="4"', regions)
    cleaned, dropped = without_stale(packet, upright=False)
    assert properties(cleaned) == {(NAMES["xmp"], "Rating"): "4"}
    assert dropped == ["its sizes of a panorama", "its image regions"]


def test_the_format_is_that_of_the_file():
    packet = packet_of('dc:format="image/tiff"')
    assert list(properties(with_size(packet, 4, 4, "jpeg")).values()) == ["image/jpeg"]
