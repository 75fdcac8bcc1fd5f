import pytest
import torch
from torch.testing import assert_close

from restore_cli.imaging.contact_sheet import contact_sheet


@pytest.mark.parametrize(
    ("count", "columns", "size"), [(1, 1, (2, 3)), (4, 2, (6, 8)), (5, 3, (6, 13))]
)
def test_a_sheet_has_room_for_all(count, columns, size):
    sheet = contact_sheet([torch.zeros(3, 2, 3)] * count, columns)
    assert sheet.shape == (3, *size)


def test_images_lie_row_by_row_on_white():
    images = [torch.full((3, 1, 1), value / 4) for value in range(3)]
    white = torch.ones(4, 4)
    white[0, 0], white[0, 3], white[3, 0] = 0, 0.25, 0.5
    assert_close(contact_sheet(images, 2)[0], white)
