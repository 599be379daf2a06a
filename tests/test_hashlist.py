import csv
import logging
from hashlib import md5

import numpy as np
import pytest
from descriptors.pictures import drawn

from byrote.errors import DescriptorError
from byrote.hashlist import HashList
from byrote.images import encode_jpeg, encode_png, resize
from byrote.kernels import pdq


def hexed(picture):
    return pdq.hashes(picture[None])[0][0].tobytes().hex()


def flipped(digits, bits, seed=0):
    """Return the hash with so many bits turned over."""
    values = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))
    values[np.random.default_rng(seed).choice(256, bits, replace=False)] ^= 1
    return np.packbits(values).tobytes().hex()


def listed(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return HashList.open(path)


LISTED, OTHER = drawn(1, 320, 320), drawn(2, 320, 320)


def test_a_listed_picture_hits_as_it_is_smaller_compressed_turned_and_mirrored(tmp_path):
    known = listed(tmp_path / "list.txt", "# a comment", "", hexed(LISTED))
    moved = [np.rot90(LISTED, k) for k in range(4)] + [np.rot90(LISTED[:, ::-1], k) for k in range(4)]
    for picture in moved:
        assert known.hits(np.ascontiguousarray(picture))
    assert known.hits(resize(LISTED, 80, 80))
    assert not known.hits(OTHER)


def test_the_radius_is_31_bits_and_no_more(tmp_path):
    for seed in range(5):
        assert listed(tmp_path / "a.txt", flipped(hexed(LISTED), 31, seed)).hits(LISTED)
        assert not listed(tmp_path / "b.txt", flipped(hexed(LISTED), 32, seed)).hits(LISTED)


def test_a_picture_of_low_quality_hits_by_its_bytes_only(tmp_path):
    dull = (LISTED // 40 + 100).astype(np.uint8)
    assert pdq.hashes(dull[None])[1][0] < 50
    assert not listed(tmp_path / "a.txt", hexed(dull)).hits(dull)
    data = encode_png(dull)
    known = listed(tmp_path / "b.txt", md5(data).hexdigest())
    assert known.hits(dull, data)
    assert not known.hits(dull, data + b"x")
    assert not known.hits(dull)


def test_bytes_that_are_no_picture_are_known_by_their_md5(tmp_path):
    known = listed(tmp_path / "list.txt", md5(b"broken").hexdigest().upper())
    assert known.has_file(b"broken")
    assert not known.has_file(b"other")


def test_a_batch_of_all_sizes_says_the_same_as_one_by_one(tmp_path):
    pictures = [drawn(seed, 64 + seed % 3 * 20, 100) for seed in range(30)]
    datas = [encode_jpeg(picture) if seed % 2 else None for seed, picture in enumerate(pictures)]
    known = listed(
        tmp_path / "list.csv", *(hexed(pictures[k]) for k in (0, 7, 8, 20)), md5(datas[9]).hexdigest(), hexed(drawn(99))
    )
    hit = known.screen(pictures, datas)
    assert hit.dtype == bool
    assert np.flatnonzero(hit).tolist() == [0, 7, 8, 9, 20]
    assert hit.tolist() == [known.hits(picture, data) for picture, data in zip(pictures, datas, strict=True)]
    assert known.screen([], []).shape == (0,)


def test_a_table_with_other_columns_is_read_and_a_named_column_alone_counts(tmp_path):
    path = tmp_path / "list.csv"
    data = encode_png(OTHER)
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "sha256", "MD5", "pdq_hash", "note"])
        rows.writerow([17, "ab" * 32, md5(data).hexdigest(), hexed(LISTED), "a, b"])
        rows.writerow([18, "cd" * 32, "", hexed(OTHER), ""])
    known = HashList.open(path)
    assert len(known) == 3
    assert known.hits(LISTED)
    assert known.hits(OTHER)
    assert known.digest == listed(tmp_path / "plain.txt", md5(data).hexdigest(), hexed(OTHER), hexed(LISTED)).digest


def test_the_digest_is_of_the_set_of_hashes(tmp_path):
    a, b = hexed(LISTED), hexed(OTHER)
    one = listed(tmp_path / "1.txt", a, b)
    assert one.digest == listed(tmp_path / "2.txt", "# other", b.upper(), a, a, f"{b},a note").digest
    assert one.digest != listed(tmp_path / "3.txt", a).digest
    assert one.digest.startswith("sha256:")
    assert len(one.digest) == 71


@pytest.mark.parametrize("bad", ["ab" * 15 + "a", "ab" * 33, "zz" * 32, "just words", "ab" * 20])
def test_a_bad_line_is_told_by_its_number_and_never_shown(tmp_path, bad):
    for place, lines in ((3, ["# list", "ab" * 16, bad]), (1, [bad, "ab" * 16])):
        if place == 1 and not set(bad) <= set("ab"):
            continue  # a first line without digits is a heading
        with pytest.raises(DescriptorError, match=f"line {place}:") as caught:
            listed(tmp_path / "list.txt", *lines)
        told = str(caught.value)
        assert bad not in told
        assert "\n" not in told


@pytest.mark.parametrize("lines", [[], ["# nothing"], ["hash,source"]])
def test_a_list_without_hashes_is_a_mistake(tmp_path, lines):
    with pytest.raises(DescriptorError, match="holds none"):
        listed(tmp_path / "list.txt", *lines)


def test_a_list_that_is_not_there_or_no_text_is_told_in_one_line(tmp_path):
    with pytest.raises(DescriptorError, match="cannot be read"):
        HashList.open(tmp_path / "nowhere.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00\x99")
    with pytest.raises(DescriptorError, match="cannot be read"):
        HashList.open(tmp_path / "list.txt")


def test_nothing_that_hit_is_printed_logged_or_shown(tmp_path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    data = encode_png(LISTED)
    known = listed(tmp_path / "list.txt", hexed(LISTED), md5(data).hexdigest())
    assert known.screen([LISTED, OTHER], [data, None]).tolist() == [True, False]
    printed = capsys.readouterr()
    assert printed.out == printed.err == caplog.text == ""
    assert repr(known) == "HashList(1 MD5, 1 PDQ)"


def test_as_many_byte_strings_as_images_are_wanted(tmp_path):
    with pytest.raises(ValueError, match="1 images have 2"):
        listed(tmp_path / "list.txt", hexed(LISTED)).screen([LISTED], [None, None])
