"""The idx reader gives the array back, and names what is wrong with a file that is not whole."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from smallnets.tasks.idx import read, read_examples

HEADER = bytes([0, 0, 8, 1, 0, 0, 0, 3])


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0)))
def test_a_file_gives_back_its_array(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))
    np.testing.assert_array_equal(read(path), array)


def gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file", id="absent"),
        pytest.param(b"", "starts with 00 00 08, this one with nothing", id="empty"),
        pytest.param(b"plain text", "Not a gzipped file", id="not gzip"),
        pytest.param(gz(HEADER + b"abc")[:-9], "end-of-stream", id="half-written"),
        pytest.param(gz(HEADER + b"abc")[:12], "end-of-stream", id="barely begun"),
        pytest.param(gz(HEADER + b"abc")[:-8] + b"\1" * 8, "CRC check failed", id="checksum"),
        pytest.param(gz(HEADER)[:10] + b"\xff" * 30, "invalid block type", id="garbage"),
        pytest.param(gz(b"\0\0\x0d\1" + bytes(4)), "this one with 00 00 0d", id="floats"),
        pytest.param(gz(HEADER + b"ab"), r"sizes \(3,\) need 11 bytes, it holds 10", id="short"),
        pytest.param(gz(HEADER + b"abcd"), r"sizes \(3,\) need 11 bytes, it holds 12", id="long"),
        pytest.param(gz(HEADER[:6]), "1 axes .* it holds 6", id="header cut"),
        pytest.param(gz(HEADER[:4]), "1 axes .* it holds 4", id="header absent"),
        pytest.param(gz(b"\0\0\x08\4" + b"\x40\0\0\0" * 4), "4 axes", id="overflow"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "a.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_images_and_labels_must_belong_together(idx_folder, images):
    pixels, labels = read_examples(idx_folder, "train")
    np.testing.assert_array_equal(pixels, images["train"][0])
    np.testing.assert_array_equal(labels, images["train"][1])
    other = idx_folder / "t10k-labels-idx1-ubyte.gz"
    other.replace(idx_folder / "train-labels-idx1-ubyte.gz")
    with pytest.raises(ValueError, match=r"\(60, 28, 28\) and \(20,\)"):
        read_examples(idx_folder, "train")
