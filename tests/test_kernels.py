"""The counter of kernels counts: on programs written by hand, and on what XLA makes of known loops on any machine."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import hlo, kernels

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
