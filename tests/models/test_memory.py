"""Memory that does not suffice is one error, whoever says it, and batches are halved for it."""

import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote import models
from byrote.errors import ModelError, OutOfMemory
from byrote.models import Options, Request
from byrote.models.memory import halving, short


class Device:
    """Doubles numbers, `most` at once."""

    def __init__(self, most):
        self.most, self.asked, self.held = most, [], []

    def __call__(self, numbers):
        self.asked.append(len(numbers))
        tensor = np.zeros(len(numbers))
        self.held.append(weakref.ref(tensor))
        if len(numbers) > self.most:
            raise OutOfMemory(f"{len(numbers)} at once")
        return [2 * number for number in numbers]


@given(st.integers(0, 40), st.integers(1, 20), st.integers(1, 20))
def test_all_is_made_in_order_whatever_the_memory(n, batch, most):
    device = Device(most)
    made, least = halving(device, range(n), batch)
    assert made == [2 * number for number in range(n)]
    assert least <= batch
    failed = [size for size in device.asked if size > most]
    assert failed == sorted(set(failed), reverse=True)  # none is tried again: the batch stays small
    assert sum(device.asked) - sum(failed) == n


def test_eight_that_are_too_many_become_four_and_then_two_for_the_rest():
    device = Device(3)
    assert halving(device, range(9), 8)[1] == 2
    assert device.asked == [8, 4, 2, 2, 2, 2, 1]


def test_a_batch_that_fits_is_left_alone():
    device = Device(8)
    assert halving(device, range(10), 8) == ([2 * k for k in range(10)], 8)
    assert device.asked == [8, 2]


def test_one_that_is_too_much_is_told():
    with pytest.raises(OutOfMemory, match="1 at once"):
        halving(Device(0), range(9), 8)


def test_what_a_failed_batch_held_is_let_go_before_the_next():
    device = Device(4)
    halving(device, range(8), 8)
    assert device.held[0]() is None


def test_another_error_is_no_want_of_memory():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), short("a:b", 8):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(KeyError), short("a:b", 8):
        raise KeyError("out of memory")
    with pytest.raises(RuntimeError, match="descriptor"), short("a:b", 8):
        raise RuntimeError("could not create a primitive descriptor for a convolution")


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB\nand more",
        "CUDA error: out of memory",
        "MPS backend out of memory (MPS allocated: 1.00 GB)",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "could not create a primitive",
        "std::bad_alloc",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
    ],
)
def test_what_libraries_say_is_told_in_one_line(said):
    with pytest.raises(ModelError, match=r"^model 'a:b': out of memory with 8 images at once: .*batch") as caught:  # noqa: SIM117
        with short("a:b", 8):
            raise RuntimeError(said)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, OutOfMemory)


def test_one_image_alone_has_other_ways_out():
    with pytest.raises(OutOfMemory) as caught, short("a:b", 1):
        raise MemoryError
    assert all(word in str(caught.value) for word in ("width", "height", "dtype", "offload", "slicing"))


def test_an_error_of_another_library_is_named_where_it_is_expected():
    class Foreign(Exception):
        pass

    with pytest.raises(OutOfMemory), short("a:b", 2, Foreign):
        raise Foreign("Failed to allocate memory for requested buffer of size 1048576")
    with pytest.raises(Foreign), short("a:b", 2):
        raise Foreign("Failed to allocate memory for requested buffer of size 1048576")


def test_numpy_really_fails_so():
    with pytest.raises(OutOfMemory), short("a:b", 2):
        np.zeros(2**58, np.float32)


def test_torch_really_fails_so():
    torch = pytest.importorskip("torch")
    with pytest.raises(OutOfMemory), short("a:b", 2):
        torch.empty(2**58)
    with pytest.raises(OutOfMemory), short("a:b", 2):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    with pytest.raises(RuntimeError, match="mat1"), short("a:b", 2):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_a_pipeline_that_runs_out_of_memory_goes_on_with_half_the_batch(tmp_path):
    torch = pytest.importorskip("torch")
    from . import tiny

    model = models.open(f"diffusers:{tiny.unconditional(tmp_path)}", Options(steps=2))
    requests = [Request(None, seed) for seed in range(5)]
    whole, asked = model.generate(requests), []

    def full(module, given):
        asked.append(len(given[0]))
        if len(given[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    model._pipeline.unet.register_forward_pre_hook(full)
    made, least = halving(model.generate, requests, 5)
    assert (least, asked) == (2, [5, 2, 2, 2, 2, 1, 1])  # two steps each, but for the batch that failed at its first
    apart = [int(np.abs(a.astype(int) - b).max()) for a, b in zip(whole, made, strict=True)]
    assert max(apart) <= model.tolerance
