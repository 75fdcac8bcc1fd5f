"""Files of light and of measured values, made by the libraries of their formats."""

import io

import imagecodecs
import numpy as np
import OpenEXR
from astropy.io import fits
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def light(height=20, width=30, channels=3, peak=50.0, seed=0):
    """Return light that is dark for the most part, with few bright pixels."""
    values = np.random.default_rng(seed).random((height, width, channels)) ** 4
    return (values * peak).astype(np.float32)


def exr_file(values, *, half=True, names="RGBA", more=None, **attributes):
    kind = np.float16 if half else np.float32
    channels = {
        name: np.ascontiguousarray(values[..., place], kind)
        for place, name in enumerate(names[: values.shape[2]])
    }
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    file = io.BytesIO()
    with OpenEXR.File(header | attributes, channels | (more or {})) as written:
        written.write(file)
    return file.getvalue()


def exr_contents(data):
    """Return the attributes and the channels of a file."""
    with OpenEXR.File(io.BytesIO(data), separate_channels=True) as file:
        channels = {name: each.pixels.copy() for name, each in file.channels().items()}
        return dict(file.header()), channels


def hdr_file(values, *lines, size=None):
    values = np.ascontiguousarray(values, np.float32)
    packed = bytes(imagecodecs.rgbe_encode(values, out=2 * values.nbytes + 256))
    start, body = packed.split(b"\n\n", 1)
    if size:
        body = size + b"\n" + body.split(b"\n", 1)[1]
    return b"\n".join((start, *lines)) + b"\n\n" + body


def fits_file(values, *cards, blank=None, extension=False, checksum=False):
    hdu = (fits.ImageHDU if extension else fits.PrimaryHDU)(values)
    hdu.header.extend(cards)
    if blank is not None:
        hdu.header["BLANK"] = blank
    file = io.BytesIO()
    hdus = [fits.PrimaryHDU(), hdu] if extension else [hdu]
    fits.HDUList(hdus).writeto(file, checksum=checksum)
    return file.getvalue()


def fits_contents(data, index=0):
    """Return the header and the stored values of an image."""
    with fits.open(io.BytesIO(data), do_not_scale_image_data=True, checksum=True) as file:
        return file[index].header.copy(), np.array(file[index].data)


def dicom_file(values, *, preamble=bytes(128), **elements):
    """Return a DICOM file of a grey image with signed or unsigned values."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["source"])
    dataset = FileDataset(None, {}, file_meta=meta, preamble=preamble)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.Modality = "Doe^Jane", "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * values.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.PixelSpacing = [0.5, 0.25]
    dataset.PixelData = values.tobytes() + bytes(values.nbytes % 2)
    dataset["PixelData"].VR = "OW" if values.dtype.itemsize > 1 else "OB"
    for name, value in elements.items():
        setattr(dataset, name, value)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
