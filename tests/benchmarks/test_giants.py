import pytest

from benchmarks.giants import peak


@pytest.mark.giant
@pytest.mark.parametrize("command", ["upscale", "derain"])
def test_400_megapixels_take_less_than_2500_mb(command, tmp_path):
    """All but the network of derain, which would take hours."""
    held, _ = peak(command, 20_000, tmp_path, None, stub=command == "derain")
    assert held < 2500
