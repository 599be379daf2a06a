import hashlib
import struct
import threading
import time
from io import BytesIO
from random import Random

import broken
import numpy as np
import pytest
from broken import BLACK, BLUE, GREEN, RED, WHITE
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from byrote import images
from byrote.images import Undecodable, decode, digest, encode_jpeg, encode_png, fit, preview, resize

EVERY_FORMAT = ("PNG", "JPEG", "WEBP", "TIFF", *(["AVIF"] if "AVIF" in images.FORMATS else []))


def test_an_ordinary_png_decodes_to_its_pixels_in_an_array_of_its_own():
    drawn = broken.textured()
    decoded = decode(broken.saved(drawn, "PNG"))
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, drawn)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_agree_to_the_level(format):
    np.testing.assert_array_equal(decode(broken.saved(broken.textured(), format)), broken.textured())


@pytest.mark.parametrize(("name", "data"), broken.hopeless().items())
def test_a_hopeless_file_is_undecodable_with_one_line_of_reason(name, data):
    with pytest.raises(Undecodable) as raised:
        decode(data)
    assert raised.value.reason == str(raised.value)
    assert raised.value.reason
    assert "\n" not in raised.value.reason
    assert " at 0x" not in raised.value.reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("zero-bytes.png", "zero bytes"),
        ("text.png", "not an image"),
        ("html.jpg", "not an image"),
        ("pdf.png", "not an image"),
        ("postscript.png", "not an image"),
        ("truncated.png", "truncated"),
        ("truncated.jpg", "truncated"),
        ("signature-only.png", "truncated or broken: a PNG file without a readable header"),
        ("bomb.png", "decompression bomb: 2500000000 pixels"),
        ("float.tif", "unsupported: samples of mode F have no known range"),
    ],
)
def test_the_reason_says_what_is_wrong(name, reason):
    with pytest.raises(Undecodable, match=f"^{reason}$"):
        decode(broken.hopeless()[name])


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_file_cut_anywhere_before_its_last_tenth_never_decodes(format):
    whole = broken.saved(broken.textured(), format)
    for kept in np.linspace(0, 0.9, 19):
        with pytest.raises(Undecodable):
            decode(whole[: int(len(whole) * kept)])


def test_the_size_is_checked_before_any_pixel_is_decoded():
    just_too_large = broken.bomb(8193, 8192)
    began = time.process_time()
    with pytest.raises(Undecodable, match=r"^decompression bomb: 8193x8192$"):
        decode(just_too_large)
    assert time.process_time() - began < 0.1


def test_a_bomb_whose_pixels_are_there_is_not_inflated():
    packed = broken.png(20_000, 20_000, 1, 0, [bytes(2_500)] * 20_000)
    began = time.process_time()
    with pytest.raises(Undecodable, match=r"^decompression bomb: 400000000 pixels$"):
        decode(packed)
    assert time.process_time() - began < 0.1


def test_a_large_image_is_converted_in_strips_without_a_seam(monkeypatch):
    drawn = np.dstack([broken.textured(), broken.textured()[..., 0]])
    palette = Image.fromarray(broken.textured()).quantize(16)
    files = [
        broken.rgba(drawn),
        broken.saved(palette, "PNG", transparency=3),
        broken.grey16(drawn[..., 0].astype(int) * 257),
    ]
    at_once = [decode(file) for file in files]
    monkeypatch.setattr(images, "_STRIP", 64 * 7)
    for file, expected in zip(files, at_once, strict=True):
        np.testing.assert_array_equal(decode(file), expected)


def test_alpha_lies_over_white_exactly_for_every_colour_and_alpha():
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    decoded = decode(broken.rgba(np.dstack([colour, 255 - colour, colour, alpha])))

    def over_white(c, a):
        return (2 * (c * a + 255 * (255 - a)) + 255) // 510

    np.testing.assert_array_equal(decoded[..., 0], over_white(colour, alpha))
    np.testing.assert_array_equal(decoded[..., 1], over_white(255 - colour, alpha))


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA"])
def test_other_modes_with_alpha_lie_over_white_too(mode):
    image = Image.new("RGBA", (3, 2), (0, 0, 0, 0)).convert(mode)
    assert (decode(broken.saved(image, "TIFF" if mode == "PA" else "PNG")) == 255).all()


def test_a_palette_gives_its_colours_and_its_transparency():
    indices = [[0, 1, 2], [2, 1, 0]]
    plain = decode(broken.palette(indices, [RED, GREEN, BLUE]))
    np.testing.assert_array_equal(plain, [[RED, GREEN, BLUE], [BLUE, GREEN, RED]])
    clear = decode(broken.palette(indices, [RED, GREEN, BLUE], bytes([0, 255, 51])))
    np.testing.assert_array_equal(clear[0], [WHITE, GREEN, (204, 204, 255)])


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, b"\x40", 0, [255, 255]),
        (2, b"\x1b", 1, [0, 255, 170, 255]),
        (4, b"\x0f", 0, [255, 255]),
        (4, b"\x2f", 2, [255, 255]),
        (8, b"\x05\x06", 5, [255, 6]),
        (16, b"\x12\x34\x12\x35", 0x1234, [255, 0x12]),
    ],
)
def test_a_grey_png_with_a_transparent_level_shows_white_there(depth, row, key, expected):
    data = broken.png(len(expected), 1, depth, 0, [row], broken.chunk(b"tRNS", struct.pack(">H", key)))
    np.testing.assert_array_equal(decode(data)[0], np.repeat(np.array(expected)[:, None], 3, 1))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_colour_png_with_a_transparent_colour_shows_white_there(depth):
    pixels = np.array([[[18, 86, 154], [18, 86, 155]]]) * (257 if depth == 16 else 1)
    rows = [row.astype(">u2" if depth == 16 else "u1").tobytes() for row in pixels]
    key = broken.chunk(b"tRNS", struct.pack(">3H", *pixels[0, 0]))
    decoded = decode(broken.png(2, 1, depth, 2, rows, key))
    np.testing.assert_array_equal(decoded, [[WHITE, (18, 86, 155)]])


def test_sixteen_bits_scale_to_eight_and_do_not_clip():
    every = np.arange(65536).reshape(256, 256)
    decoded = decode(broken.grey16(every))
    np.testing.assert_array_equal(decoded, np.repeat((every // 256)[..., None], 3, 2))


@pytest.mark.parametrize("format", ["TIFF", "PPM"])
def test_sixteen_bit_greys_of_other_formats_agree_with_png(format):
    every = np.arange(65536).astype(np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(decode(broken.saved(every, format)), decode(broken.grey16(every)))


def test_sixteen_bit_colours_keep_their_high_bytes_like_greys():
    values = np.arange(0, 65536, 7)[:9360].reshape(52, 60, 3)
    np.testing.assert_array_equal(decode(broken.rgb16(values)), values // 256)


def test_an_eight_bit_picture_stored_in_sixteen_bits_has_the_same_digest():
    drawn = broken.textured()
    assert digest(decode(broken.rgb16(drawn * np.int64(257)))) == digest(drawn)


def test_one_bit_and_grey_become_equal_channels():
    np.testing.assert_array_equal(decode(broken.png(4, 1, 1, 0, [b"\xa0"])), [[WHITE, BLACK, WHITE, BLACK]])
    np.testing.assert_array_equal(decode(broken.png(2, 1, 8, 0, [b"\x07\xf0"])), [[[7] * 3, [240] * 3]])


@pytest.mark.parametrize(
    ("ink", "expected"),
    [
        ((0, 0, 0, 0), WHITE),
        ((0, 0, 0, 255), BLACK),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 255, 0), RED),
        ((0, 255, 255, 128), (127, 0, 0)),
    ],
)
def test_cmyk_inks_become_their_colours(ink, expected):
    assert (decode(broken.cmyk(ink)) == expected).all()
    assert np.abs(decode(broken.cmyk(ink, "JPEG")).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_shows_its_first_frame(format):
    assert (decode(broken.animated(format)) == RED).all()


@pytest.mark.parametrize("format", EVERY_FORMAT)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_undone(orientation, format):
    upright = broken.quarters(32, 64)
    decoded = decode(broken.turned(upright, orientation, format))
    assert decoded.shape == upright.shape
    rows, columns = [8, 8, 24, 24], [16, 48, 16, 48]
    assert np.abs(decoded[rows, columns].astype(int) - upright[rows, columns]).max() <= 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_counts_as_none():
    file = BytesIO()
    Image.fromarray(broken.quarters()).save(file, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode(file.getvalue()), broken.quarters())


def test_a_colour_profile_is_ignored():
    drawn = broken.textured()
    assert digest(decode(broken.saved(drawn, "PNG", icc_profile=b"\0" * 128))) == digest(drawn)


def mutated(random, data):
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(data) if random.random() < 0.5 else min(100, len(data)))
        match random.randrange(5):
            case 0:
                data[at] = random.randrange(256)
            case 1:
                data[at] ^= 1 << random.randrange(8)
            case 2:
                data[at : at + 4] = random.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
            case 3:
                del data[at : at + random.randrange(1, min(20, len(data)))]
            case _:
                data[at:at] = data[max(0, at - random.randrange(1, 30)) : at]
    return bytes(data)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_six_hundred_mutated_files_decode_or_are_undecodable_in_bounded_time(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 2**20)
    drawn = broken.textured()
    formats = [broken.saved(drawn, format) for format in (*images.FORMATS, "GIF")]
    files = [*formats, *broken.odd().values(), broken.saved(drawn, "JPEG", progressive=True)]
    random, outcomes, began = Random(20230130), {"decoded": 0, "undecodable": 0}, time.process_time()
    for number in range(600):
        try:
            decoded = decode(mutated(random, files[number % len(files)]))
        except Undecodable as error:
            outcomes["undecodable"] += len(error.reason.splitlines()) == 1
        else:
            outcomes["decoded"] += 1
            assert decoded.ndim == 3
            assert decoded.dtype == np.uint8
    assert sum(outcomes.values()) == 600
    assert min(outcomes.values()) > 60
    assert time.process_time() - began < 20


def test_warnings_that_are_errors_still_end_as_undecodable():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Undecodable, match=r"^decompression bomb"):
            decode(broken.bomb(10_000, 10_000))


def test_many_threads_decode_alike():
    files = [broken.saved(broken.textured(), format) for format in images.FORMATS]
    expected = [digest(decode(file)) for file in files]
    found = {}

    def work(name):
        found[name] = [[digest(decode(file)) for file in files] for _ in range(5)]

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(run == expected for runs in found.values() for run in runs)
    assert len(found) == 6


def test_a_digest_is_over_the_size_and_the_rows():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert digest(image) == "sha256:" + hashlib.sha256(b"3x2\n" + bytes(range(18))).hexdigest()
    assert digest(image) != digest(image.reshape(3, 2, 3))
    assert digest(image[:, ::-1]) == digest(np.ascontiguousarray(image[:, ::-1]))


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_a_png_gives_the_pixels_back_and_is_the_same_each_time(height, width, random):
    image = np.frombuffer(random.randbytes(height * width * 3), np.uint8).reshape(height, width, 3)
    np.testing.assert_array_equal(decode(encode_png(image)), image)
    assert encode_png(image) == encode_png(image.copy())


@pytest.mark.parametrize("bad", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), np.zeros((0, 2, 3), np.uint8)])
def test_what_is_no_image_is_a_mistake_of_the_programmer(bad):
    for call in (digest, encode_png, lambda image: resize(image, 1, 1), lambda image: fit(image, 1, 1)):
        with pytest.raises(ValueError, match=r"uint8 \[height, width, 3\]"):
            call(bad)


def block_mean(image, down, right):
    height, width = image.shape[0] // down, image.shape[1] // right
    sums = image.astype(int).reshape(height, down, width, right, 3).sum((1, 3))
    return (2 * sums + down * right) // (2 * down * right)


@pytest.mark.parametrize(("down", "right"), [(1, 2), (2, 1), (2, 2), (4, 4), (8, 2), (16, 16)])
def test_shrinking_by_powers_of_two_is_the_exact_block_mean(down, right):
    image = np.random.default_rng(3).integers(0, 256, (8 * down, 8 * right, 3), np.uint8)
    np.testing.assert_array_equal(resize(image, 8, 8), block_mean(image, down, right))


@pytest.mark.parametrize("factor", [3, 5, 6, 7, 12])
def test_shrinking_by_other_factors_is_the_block_mean_within_a_level(factor):
    image = np.random.default_rng(3).integers(0, 256, (8 * factor, 8 * factor, 3), np.uint8)
    assert np.abs(resize(image, 8, 8) - block_mean(image, factor, factor)).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(50, 20), (100, 13), (63, 47), (20, 100), (1, 1)])
def test_resizing_gives_the_size_asked_for_and_keeps_a_flat_colour(width, height):
    flat = np.full((48, 64, 3), (9, 99, 199), np.uint8)
    assert resize(flat, width, height).shape == (height, width, 3)
    assert (resize(flat, width, height) == (9, 99, 199)).all()


def test_growing_and_shrinking_back_comes_near_to_the_start():
    image = broken.textured()
    assert np.abs(resize(resize(image, 128, 96), 64, 48).astype(int) - image).max() <= 12


def test_fitting_takes_the_centre_of_a_wide_and_of_a_tall_picture():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    assert (fit(wide, 10, 10) == 255).all()
    assert (fit(wide.swapaxes(0, 1), 5, 5) == 255).all()
    assert not (fit(wide, 30, 10) == 255).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))
def test_fitting_gives_any_picture_any_size(height, width, new_height, new_width):
    image = np.full((height, width, 3), 77, np.uint8)
    fitted = fit(image, new_width, new_height)
    assert fitted.shape == (new_height, new_width, 3)
    assert (fitted == 77).all()


def test_fitting_to_nothing_is_a_mistake_of_the_programmer():
    for call in (fit, resize):
        with pytest.raises(ValueError, match="0x5"):
            call(broken.quarters(), 0, 5)


def test_a_preview_is_a_small_jpeg_and_never_larger_than_the_image():
    image = broken.textured()
    assert decode(preview(image, 32)).shape == (24, 32, 3)
    assert decode(preview(image, 1000)).shape == image.shape
    assert np.abs(decode(encode_jpeg(image, 95)).astype(int) - image).mean() < 2
