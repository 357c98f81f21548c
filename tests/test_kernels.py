"""The counter of kernels counts: on programs written by hand, and on what XLA makes of known loops on any machine."""

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import hlo, kernels, table, traffic

BY_HAND = """
HloModule by_hand, is_scheduled=true

%inner_body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[4]{0} get-tuple-element(%p), index=1
  %f.1 = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused
  %g.1 = f32[4]{0} custom-call(%f.1), custom_call_target="__cublas$gemm"
  ROOT %t = (s32[], f32[4]{0}) tuple(%i, %g.1)
}

%fused_write (p: f32[99,4]) -> f32[99,4] {
  %p.1 = f32[99,4]{1,0} parameter(0)
  ROOT %u = f32[99,4]{1,0} dynamic-update-slice(%p.1, %p.1, %p.1, %p.1)
}

%graph (p: f32[4]) -> f32[4] {
  %p.2 = f32[4]{0} parameter(0)
  %c.1 = f32[4]{0} copy(%p.2)
  ROOT %c.2 = f32[4]{0} copy(%c.1)
}

%outer_body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %q = (s32[], f32[4]{0}) parameter(0)
  %w = (s32[], f32[4]{0}) while(%q), condition=%c, body=%inner_body, backend_config={"known_trip_count":{"n":"5"}}
  %y = f32[4]{0} call(%q), to_apply=%graph
  %write = f32[99,4]{1,0} fusion(%y), kind=kLoop, calls=%fused_write
  %whole = f32[99,4]{1,0} copy(%write)
  ROOT %t.1 = (s32[], f32[4]{0}) tuple(%y)
}

%short (p: f32[4]) -> f32[4] {
  ROOT %c.3 = f32[4]{0} copy(%p)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %w.1 = (s32[], f32[4]{0}) while(%a), condition=%c, body=%outer_body, backend_config={"known_trip_count":{"n":"3"}}
  %d = (s32[], f32[4]{0}) while(%a), condition=%c, body=%inner_body
  ROOT %e = f32[4]{0} conditional(%a, %a, %a), branch_computations={%short, %graph}
}
"""


def test_a_loop_counts_as_often_as_it_turns_and_one_of_unknown_length_once():
    counts = hlo.count(BY_HAND, (99,))
    outer = 5 * 2 + 2 + 2  # five trips of a fusion and a product; two copies in a call; a write and a copy of the ring
    assert counts.kernels == 3 * outer + 2 + (1 + 2)  # and the longer branch of the conditional
    assert [(loop.depth, loop.trips, loop.kernels) for loop in counts.loops] == [(1, 5, 2), (0, 3, outer), (0, None, 2)]
    assert counts.main_loop.trips == 3
    assert (counts.unknown_loops, counts.conditionals) == (1, 1)
    assert counts.launches == {
        "fusion": 15 + 3 + 1,
        "custom-call __cublas$gemm": 15 + 1,
        "copy": 3 * 3 + 2,
        "conditional": 1,
    }


def test_a_ring_that_is_written_in_place_is_no_copy_of_it():
    assert hlo.count(BY_HAND, (99,)).large_copies == ["whole"]
    assert hlo.count(BY_HAND).large_copies == []


def nested(x):
    def body(x, _):
        return jax.lax.scan(lambda x, _: (jnp.sort(jnp.sin(x)), None), x, None, length=50)[0], None

    return jax.lax.scan(body, x, None, length=30)[0]


def unknown(x):
    return jax.lax.while_loop(lambda x: x.sum() > 1.0, lambda x: jnp.sort(0.9 * x), x)


def choosing(x):
    return jax.lax.cond(x.sum() > 1.0, lambda x: jnp.sort(x), lambda x: jnp.sort(-x), x)


@pytest.mark.parametrize(
    "function, trips, conditionals",
    [(nested, [50, 30], 0), (unknown, [None], 0), (choosing, [], 1)],
)
def test_the_loops_of_a_compiled_program_are_found(function, trips, conditionals):
    counts = hlo.count(jax.jit(function).lower(jnp.ones(100)).compile().as_text())
    assert [loop.trips for loop in counts.loops] == trips
    assert counts.conditionals == conditionals
    turns = 1500 if function is nested else 1
    assert counts.launches["sort"] == turns


def test_without_a_description_of_the_gpu_the_counter_says_what_it_needs(capsys, monkeypatch):
    monkeypatch.delenv(kernels.TARGET, raising=False)
    with pytest.raises(SystemExit, match="GpuTargetConfigProto"):
        kernels.main(["--algo", "td3"])


MOVING = """
HloModule moving, is_scheduled=true

%write (ring: f32[1000,4], row: f32[1,4], at: s32[]) -> (f32[1000,4], f32[1,4]) {
  %ring = f32[1000,4]{1,0} parameter(0)
  %row = f32[1,4]{1,0} parameter(1)
  %at = s32[] parameter(2)
  %zero = s32[] constant(0)
  %flat = f32[4000]{0} bitcast(%ring)
  %again = f32[1000,4]{1,0} bitcast(%flat)
  %wrote = f32[1000,4]{1,0} dynamic-update-slice(%again, %row, %at, %zero)
  %twice = f32[1,4]{1,0} add(%row, %row)
  ROOT %both = (f32[1000,4]{1,0}, f32[1,4]{1,0}) tuple(%wrote, %twice)
}

%find (ring.1: f32[1000,4], rows: s32[8,1]) -> (f32[8,2], f32[8,4]) {
  %ring.1 = f32[1000,4]{1,0} parameter(0)
  %rows = s32[8,1]{1,0} parameter(1)
  %drawn = f32[8,4]{1,0} gather(%ring.1, %rows), offset_dims={1}, slice_sizes={1,4}
  %half = f32[8,2]{1,0} slice(%drawn), slice={[0:8], [0:2]}
  ROOT %found = (f32[8,2]{1,0}, f32[8,4]{1,0}) tuple(%half, %drawn)
}

%two_parts (whole: f32[1000,4]) -> f32[2,4] {
  %whole = f32[1000,4]{1,0} parameter(0)
  %one = f32[1,4]{1,0} slice(%whole), slice={[0:1], [0:4]}
  %other = f32[1,4]{1,0} slice(%whole), slice={[9:10], [0:4]}
  ROOT %pair = f32[2,4]{1,0} concatenate(%one, %other), dimensions={0}
}

%outer (within: f32[1000,4]) -> f32[2,4] {
  %within = f32[1000,4]{1,0} parameter(0)
  ROOT %nested = f32[2,4]{1,0} fusion(%within), kind=kLoop, calls=%two_parts
}

%fresh (row.1: f32[1,4], at.1: s32[]) -> f32[1000,4] {
  %row.1 = f32[1,4]{1,0} parameter(0)
  %at.1 = s32[] parameter(1)
  %nothing = f32[] constant(0)
  %empty = f32[1000,4]{1,0} broadcast(%nothing), dimensions={}
  ROOT %made = f32[1000,4]{1,0} dynamic-update-slice(%empty, %row.1, %at.1, %at.1)
}

%multiply (x: f32[2,8,4], w: f32[2,4,16], b: f32[2,16]) -> f32[2,8,16] {
  %x = f32[2,8,4]{2,1,0} parameter(0)
  %w = f32[2,4,16]{2,1,0} parameter(1)
  %b = f32[2,16]{1,0} parameter(2)
  %d = f32[2,8,16]{2,1,0} dot(%x, %w), lhs_batch_dims={0}, lhs_contracting_dims={2}, operand_precision={high,high}
  %b.1 = f32[2,8,16]{2,1,0} broadcast(%b), dimensions={0,2}
  ROOT %s = f32[2,8,16]{2,1,0} add(%d, %b.1)
}

%descend (g: f32[100], g.1: f32[100]) -> f32[100] {
  %g = f32[100]{0} parameter(0)
  %g.1 = f32[100]{0} parameter(1)
  %root = f32[100]{0} sqrt(%g)
  ROOT %step = f32[100]{0} divide(%g.1, %root)
}

%backward (h: f32[8,4], v: f32[8,4]) -> f32[4] {
  %h = f32[8,4]{1,0} parameter(0)
  %v = f32[8,4]{1,0} parameter(1)
  %m = f32[8,4]{1,0} multiply(%h, %v), metadata={op_name="jit(f)/transpose(jvp(Actor))/mul"}
  ROOT %r = f32[4]{0} reduce(%m, %m), dimensions={0}, to_apply=%sum
}

%forward (h.1: f32[8,4]) -> f32[4] {
  %h.1 = f32[8,4]{1,0} parameter(0)
  ROOT %r.1 = f32[4]{0} reduce(%h.1, %h.1), dimensions={0}, to_apply=%sum
}

%biased (h.2: f32[8,4], c: f32[4]) -> f32[8,4] {
  %h.2 = f32[8,4]{1,0} parameter(0)
  %c = f32[4]{0} parameter(1)
  %c.1 = f32[8,4]{1,0} broadcast(%c), dimensions={1}
  ROOT %a.1 = f32[8,4]{1,0} add(%h.2, %c.1), metadata={op_name="jit(f)/Actor/torso/Dense_0/add"}
}

%body (state: (f32[1000,4], f32[100])) -> (f32[1000,4], f32[100]) {
  %state = (f32[1000,4]{1,0}, f32[100]{0}) parameter(0)
  %data = f32[1000,4]{1,0} get-tuple-element(%state), index=0
  %number = s32[] constant(3)
  %index = s32[8,1]{1,0} constant({...})
  %gradient = f32[100]{0} get-tuple-element(%state), index=1
  %input = f32[2,8,4]{2,1,0} constant({...})
  %weights = f32[2,4,16]{2,1,0} constant({...})
  %bias = f32[2,16]{1,0} constant({...})
  %hidden = f32[8,4]{1,0} constant({...})
  %units = f32[4]{0} constant({...})
  %mask = pred[8,4]{1,0} constant({...})
  %short = bf16[2,8,4]{2,1,0} constant({...})
  %new = f32[1,4]{1,0} dynamic-slice(%data, %number, /*index=2*/%number), dynamic_slice_sizes={1,4}
  %writing = (f32[1000,4]{1,0}, f32[1,4]{1,0}) fusion(%data, %new, %number), kind=kLoop, calls=%write
  %finding = (f32[8,2]{1,0}, f32[8,4]{1,0}) fusion(%data, %index), kind=kLoop, calls=%find
  %slicing = f32[2,4]{1,0} fusion(%data), kind=kLoop, calls=%outer
  %filling = f32[1000,4]{1,0} fusion(%new, %number), kind=kLoop, calls=%fresh
  %multiplying = f32[2,8,16]{2,1,0} fusion(%input, %weights, %bias), kind=kCustom, calls=%multiply
  %descending = f32[100]{0} fusion(%gradient, %gradient), kind=kLoop, calls=%descend
  %going_back = f32[4]{0} fusion(%hidden, %hidden), kind=kInput, calls=%backward
  %reducing = f32[4]{0} fusion(%hidden), kind=kInput, calls=%forward
  %adding = f32[8,4]{1,0} fusion(%hidden, %units), kind=kLoop, calls=%biased
  %copying = f32[1000,4]{1,0} copy(%data)
  %copying.1 = (f32[100]{0}, f32[100]{0}, u32[]) copy-start(%gradient)
  %narrowing = bf16[8,4]{1,0} convert(%mask)
  %calling = (f32[2,8,16]{2,1,0}, s8[4194304]{0}) custom-call(%short, %weights), custom_call_target="cholesky"
  ROOT %next = (f32[1000,4]{1,0}, f32[100]{0}) tuple(%data, %gradient)
}

ENTRY %main (a: (f32[1000,4], f32[100])) -> (f32[1000,4], f32[100]) {
  %a = (f32[1000,4]{1,0}, f32[100]{0}) parameter(0)
  ROOT %w.1 = (f32[1000,4]{1,0}, f32[100]{0}) while(%a), condition=%c, body=%body
}
"""

MOVED = {  # kind, bytes read and bytes written, by hand
    "new": ("sampling", 16 + 4, 16),  # one row, and its number
    "writing": ("other", 16 + 4, 16 + 16),  # one row in place and one that is new; nothing of the ring is read
    "finding": ("sampling", 8 * 16 + 32, 8 * 8 + 8 * 16),  # eight rows by eight numbers; halves, and the rows
    "slicing": ("copies", 2 * 16, 2 * 16),
    "filling": ("other", 16 + 4, 16_000),  # a new array is written as a whole
    "multiplying": ("products", 256 + 512 + 128, 1024),
    "descending": ("adam", 400, 400),  # the same operand twice is read once
    "going_back": ("gradients", 128, 16),
    "reducing": ("reductions", 128, 16),
    "adding": ("biases", 128 + 16, 128),
    "copying": ("copies", 16_000, 16_000),
    "copying.1": ("copies", 400, 400),
    "narrowing": ("other", 32, 64),  # a byte for a truth value
    "calling": ("other", 128 + 512, 1024),  # without the working space of the library
}


def moving():
    return traffic.kernels(MOVING, hlo.count(MOVING).main_loop.launched)


def test_a_kernel_moves_only_the_bytes_that_it_touches():
    assert {made.name: (made.kind, made.read, made.written) for _, made in moving()} == MOVED


def test_bytes_are_summed_by_kind_and_by_launches():
    once, twice = (
        traffic.bytes_by_kind([(number * launches, made) for launches, made in moving()]) for number in (1, 2)
    )
    assert once["products"] == 896 + 1024 and once["copies"] == 64 + 32_000 + 800
    assert sum(once.values()) == sum(read + written for _, read, written in MOVED.values())
    assert twice == {kind: 2 * moved for kind, moved in once.items()}


@pytest.mark.parametrize("precision, peak", [("high,high", 390e12), ("highest,highest", 50e12)])
def test_a_product_costs_two_operations_per_pair_of_factors_at_the_peak_of_its_precision(precision, peak):
    text = MOVING.replace("high,high", precision)
    (product,) = [made for _, made in traffic.kernels(text, hlo.count(text).main_loop.launched) if made.arithmetic]
    assert product.arithmetic == pytest.approx(2 * 2 * 8 * 16 * 4 / peak)


def test_a_product_that_hides_in_a_library_is_refused():
    text = MOVING.replace('custom_call_target="cholesky"', 'custom_call_target="__cublas$gemm"')
    with pytest.raises(ValueError, match=r"the product calling is a call to a library \(custom-call __cublas\$gemm\)"):
        traffic.kernels(text, hlo.count(text).main_loop.launched)


@pytest.mark.parametrize(
    "gathered, moved, arithmetic, microseconds",
    [
        (0, 1000, 0, 3.0),
        (0, 43_000_000, 0, 10.5),
        (0, 43_000_000, 10e-6, 20.5),
        (9_000_000, 52_000_000, 0, 20.5),
    ],
    ids=["a launch", "memory", "arithmetic", "random reads"],
)
def test_the_predicted_time_adds_a_launch_memory_and_arithmetic(gathered, moved, arithmetic, microseconds):
    made = traffic.Kernel("by hand", "other", moved, gathered, 0, arithmetic)
    assert traffic.predicted([(2, made)]) == pytest.approx(2e-6 * microseconds)


def test_only_rows_of_an_array_larger_than_the_cache_are_read_at_random():
    assert not any(made.gathered for _, made in moving())
    text = MOVING.replace("f32[1000,4]", "f32[4000000,4]").replace("f32[4000]", "f32[16000000]")
    large = {made.name: made.gathered for _, made in traffic.kernels(text, hlo.count(text).main_loop.launched)}
    assert large == dict.fromkeys(MOVED, 0) | {"finding": 128}


def test_the_rows_that_are_kept_have_the_columns_that_are_written():
    with open(Path(kernels.__file__).parent / "results" / "kernels.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [*kernels.COLUMNS, *table.WHERE] and {len(row) for row in rows} == {len(rows[0])}
