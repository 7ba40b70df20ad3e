"""Bytes sent and copied, counted by hand in HLO written by hand."""

import pytest

from acereason_jax.planning import copies, hlo, sends

# Four devices, in each of the ways that HLO says so.
GROUPS = [
  'replica_groups={{0,1,2,3},{4,5,6,7}}',
  'replica_groups=[2,4]<=[8]',
  "replica_groups=mesh['data'=2,'model'=4] {'model'}",
  "replica_groups=mesh['data'=2,'model'=8] {'model':(2)4}",
]
# One line in the entry, and the bytes that a device in a ring of 4 sends.
LINES = [
  # 3/4 of the 8 * 16 * 4 bytes that are gathered.
  ('f32[8,16]{1,0} all-gather(%x)', 384),
  # Summed and spread: twice 3/4 of 64 * 2.
  ('bf16[64]{0} all-reduce(%x), to_apply=%sum', 192),
  # 3/4 of what goes in, 4 times the 4 * 4 bytes that come out.
  ('f32[4]{0} reduce-scatter(%x), to_apply=%sum', 48),
  ('(f32[2], f32[2], f32[2], f32[2]) all-to-all(%x, %x, %x, %x)', 24),
  # Inputs are listed before outputs: 3/4 of 16 + 32.
  (
    '((bf16[2]{0}, bf16[4]{0}), (bf16[8]{0}, bf16[16]{0})) '
    'all-gather-start(%x, %y)',
    36,
  ),
  # Two arrays as one: twice 3/4 of 4 + 8. Its start has only outputs.
  ('(f32[1], f32[2]) all-reduce-start(%x, %y), to_apply=%sum', 18),
  ('f32[8,16]{1,0} all-gather-done(%x)', 0),
  ('f32[8,16]{1,0} add(%x, %y)', 0),
]
MODULE = """HloModule jit_step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

%unused (p.0: f32[8]) -> f32[8] {
  %p.0 = f32[8]{0} parameter(0)
  ROOT %lost = f32[8]{0} all-reduce(%p.0), channel_id=90, GROUPS, to_apply=%sum
}

%all-reduce-scatter.1 (p.1: f32[16]) -> f32[4] {
  %p.1 = f32[16]{0} parameter(0)
  %whole = f32[16]{0} all-reduce(%p.1), channel_id=1, GROUPS, to_apply=%sum
  ROOT %part = f32[4]{0} dynamic-slice(%whole, %p.1), dynamic_slice_sizes={4}
}

%begun (p.2: f32[10]) -> f32[40] {
  %p.2 = f32[10]{0} parameter(0)
  ROOT %early = f32[40]{0} all-gather(%p.2), channel_id=2, GROUPS
}

%ended (p.3: f32[10]) -> f32[40] {
  %p.3 = f32[10]{0} parameter(0)
  ROOT %late = f32[40]{0} all-gather(%p.3), channel_id=2, GROUPS
}

%inner_body (s.0: (s32[], f32[10])) -> (s32[], f32[10]) {
  %s.0 = (s32[], f32[10]) parameter(0)
  %i.0 = s32[] get-tuple-element(%s.0), index=0
  %x.0 = f32[10]{0} get-tuple-element(%s.0), index=1
  %y.0 = f32[10]{0} collective-permute(%x.0), source_target_pairs={{0,1},{1,0}}
  ROOT %t.0 = (s32[], f32[10]) tuple(%i.0, %y.0)
}

%inner_condition (s.1: (s32[], f32[10])) -> pred[] {
  %s.1 = (s32[], f32[10]) parameter(0)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  %three = s32[] constant(3)
  ROOT %less = pred[] compare(%i.1, %three), direction=LT
}

%outer_body (s.2: (s32[], f32[10])) -> (s32[], f32[10]) {
  %s.2 = (s32[], f32[10]) parameter(0)
  %x.2 = f32[10]{0} get-tuple-element(%s.2), index=1
  %f.1 = f32[4]{0} fusion(%x.2), kind=kCustom, calls=%all-reduce-scatter.1
  %f.2 = f32[40]{0} fusion(%x.2), kind=kCustom, calls=%begun
  %f.3 = f32[40]{0} fusion(%f.2), kind=kCustom, calls=%ended
  %w.2 = (f32[10], u32[]) while(%s.2), \
condition=%window_condition, body=%window_body
  ROOT %w.0 = (s32[], f32[10]) while(%s.2), \
condition=%inner_condition, body=%inner_body
}

%outer_condition (s.3: (s32[], f32[10])) -> pred[] {
  %s.3 = (s32[], f32[10]) parameter(0)
  ROOT %always = pred[] constant(true)
}

%window_body (s.5: (f32[10], u32[])) -> (f32[10], u32[]) {
  %s.5 = (f32[10], u32[]) parameter(0)
  %x.5 = f32[10]{0} get-tuple-element(%s.5), index=0
  %i.5 = u32[] get-tuple-element(%s.5), index=1
  %two = u32[]{:T(128)} constant(2)
  %y.5 = f32[10]{0} collective-permute(%x.5), source_target_pairs={{0,1},{1,0}}
  %z.5 = f32[10]{0} collective-permute(%y.5), source_target_pairs={{0,1},{1,0}}
  %j.5 = u32[] add(%i.5, %two)
  ROOT %t.5 = (f32[10], u32[]) tuple(%z.5, /*index=1*/%j.5)
}

%window_condition (s.6: (f32[10], u32[])) -> pred[] {
  %six = u32[]{:T(128)} constant(6)
  %s.6 = (f32[10], u32[]) parameter(0)
  %i.6 = u32[] get-tuple-element(%s.6), index=1
  ROOT %less.6 = pred[] compare(%i.6, %six), direction=LT
}

%taken (p.4: f32[10]) -> f32[10] {
  %p.4 = f32[10]{0} parameter(0)
  ROOT %r.0 = f32[10]{0} all-reduce(%p.4), channel_id=3, GROUPS, to_apply=%sum
}

%skipped (p.5: f32[10]) -> f32[10] {
  ROOT %p.5 = f32[10]{0} parameter(0)
}

ENTRY %main (s.4: (s32[], f32[10])) -> f32[10] {
  %s.4 = (s32[], f32[10]) parameter(0)
  %w.1 = (s32[], f32[10]) while(%s.4), \
condition=%outer_condition, body=%outer_body, \
backend_config={"known_trip_count":{"n":"5"}}
  %x.4 = f32[10]{0} get-tuple-element(%w.1), index=1
  %true = pred[] constant(true)
  %again = f32[10]{0} call(%x.4), to_apply=%taken
  ROOT %c = f32[10]{0} conditional(%true, %x.4, %x.4), \
true_computation=%taken, false_computation=%skipped
}
"""


def entry(line):
  return f'ENTRY %main (x: f32[2]) -> f32[2] {{\n  %op = {line}\n}}\n'


@pytest.mark.parametrize('groups', GROUPS)
@pytest.mark.parametrize('line, sent', LINES)
def test_bytes_sent_by_one_op(line, sent, groups):
  line = f'{line}, channel_id=1, {groups}'
  assert sends.sent(hlo.parse(entry(line))) == sent


@pytest.mark.parametrize(
  'text, groups',
  [
    ('replica_groups={{0,1},{2,3}}', [[0, 1], [2, 3]]),
    ('replica_groups=[2,2]<=[4]', [[0, 1], [2, 3]]),
    # Four rows of two, read down the columns.
    ('replica_groups=[2,2]<=[2,2]T(1,0)', [[0, 2], [1, 3]]),
    ('replica_groups=[4,2]<=[2,2,2]T(0,2,1)', [[0, 2], [1, 3], [4, 6], [5, 7]]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=2,'b'=1,'c'=2] {'a','c'}", [[0, 1, 2, 3]]),
    ("replica_groups=mesh['a'=4] {'a':(1)2}", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=4] {'a':(2)2}", [[0, 1], [2, 3]]),
    (
      "replica_groups=mesh['a'=1,'b'=2,'c'=2], device_ids=([2,2]T(1,0)) {'b'}",
      [[0, 1], [2, 3]],
    ),
    ('source_target_pairs={{0,1},{1,0}}', [[0, 1], [1, 0]]),
  ],
)
def test_who_is_in_a_group(text, groups):
  (op,) = hlo.parse(entry(f'f32[8] all-gather(%x), {text}, dimensions={{0}}'))
  assert sends.groups(op).tolist() == groups


def test_groups_that_are_not_understood_are_not_guessed():
  ops = hlo.parse(entry('f32[8] all-gather(%x), replica_groups=all'))
  with pytest.raises(ValueError, match='no replica groups'):
    sends.sent(ops)


def test_loops_that_are_not_understood_are_not_guessed():
  text = MODULE.replace('constant(3)', 'custom-call()')
  ops = hlo.parse(text.replace('GROUPS', GROUPS[0]))
  with pytest.raises(ValueError, match=r'no number of trips.*inner_body'):
    sends.sent(ops)


@pytest.mark.parametrize('groups', GROUPS)
def test_bytes_sent_by_loops_branches_and_fusions(groups):
  ops = hlo.parse(MODULE.replace('GROUPS', groups))
  expected = {
    # A fused sum and spread: 3/4 of 16 * 4 bytes, 5 times.
    'fused': 5 * 48,
    # The two ends of one gather, 3/4 of 40 * 4 bytes, count once.
    'asynchronous': 5 * 120,
    # 3 times inside of 5 times, by what its condition compares with.
    'permuted': 5 * 3 * 40,
    # Two at once, 6 / 2 times inside of 5 times.
    'window': 5 * 3 * 2 * 40,
    # One branch of two, and called once more: twice 3/4 of 40.
    'branch': 2 * 60,
  }
  assert sends.sent(ops) == sum(expected.values())


def test_collectives_by_kind():
  ops = hlo.parse(MODULE.replace('GROUPS', GROUPS[0]))
  assert [tuple(s) for s in sends.by_kind(ops)] == [
    ('all-gather', 5, 600),
    # Fused with a slice, once a round; and in a branch, taken twice.
    ('all-reduce', 5 + 2, 240 + 120),
    ('collective-permute', 5 * 3 + 5 * 3 * 2, 600 + 1200),
  ]


# Two layers of weights [3, 4], bfloat16, read in 8 steps of a loop of which the
# condition is a fusion, as on GPUs.
SLICES = """HloModule jit_decode

%fused_compare (p.1: s32[]) -> pred[] {
  %p.1 = s32[] parameter(0)
  %eight = s32[] constant(8)
  ROOT %less = pred[] compare(%p.1, %eight), direction=LT
}

%condition (s.1: (s32[], bf16[2,3,4])) -> pred[] {
  %s.1 = (s32[], bf16[2,3,4]) parameter(0)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  ROOT %c.1 = pred[] fusion(%i.1), kind=kLoop, calls=%fused_compare
}

%slice (w: bf16[2,3,4], i: s32[]) -> bf16[SHAPE]PLACE {
  %w = bf16[2,3,4]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %cut = bf16[1,3,4]{2,1,0} dynamic-slice(%w, %i, %zero, %zero), \
dynamic_slice_sizes={1,3,4}
  ROOT %out = bf16[SHAPE]PLACE KIND(%cut)
}

%product (w.2: bf16[2,3,4], i.2: s32[]) -> bf16[3,4] {
  %w.2 = bf16[2,3,4]{2,1,0} parameter(0)
  %i.2 = s32[] parameter(1)
  ROOT %inner = bf16[SHAPE]PLACE fusion(%w.2, %i.2), kind=kLoop, calls=%slice
}

%body (s.2: (s32[], bf16[2,3,4])) -> (s32[], bf16[2,3,4]) {
  %s.2 = (s32[], bf16[2,3,4]) parameter(0)
  %n.2 = s32[] get-tuple-element(%s.2), index=0
  %x.2 = bf16[2,3,4]{2,1,0} get-tuple-element(%s.2), index=1
  %y.2 = bf16[SHAPE]PLACE FUSION
  ROOT %t.2 = (s32[], bf16[2,3,4]) tuple(%n.2, %x.2)
}

ENTRY %main (s.3: (s32[], bf16[2,3,4])) -> (s32[], bf16[2,3,4]) {
  %s.3 = (s32[], bf16[2,3,4]) parameter(0)
  ROOT %w.3 = (s32[], bf16[2,3,4]) while(%s.3), condition=%condition, body=%body
}
"""
CALL = 'fusion(%x.2, %n.2), kind=kCustom, calls=%slice'


@pytest.mark.parametrize(
  'shape, place, kind, fusion, copied',
  [
    ('1,3,4', '{2,1,0}', 'copy', CALL, 8 * 24),
    ('3,4', '{1,0}', 'bitcast', CALL, 8 * 24),
    # Into the scratch memory of a TPU.
    ('3,4', '{1,0:T(8,128)S(1)}', 'bitcast', CALL, 0),
    # The fusion does more than slice: here it sums.
    ('3', '{0}', 'reduce', CALL, 0),
    # A part of another fusion, which writes no slice.
    ('3,4', '{1,0}', 'bitcast', CALL.replace('%slice', '%product'), 0),
  ],
)
def test_slices_of_stacked_weights(shape, place, kind, fusion, copied):
  text = SLICES.replace('SHAPE', shape).replace('PLACE', place)
  ops = hlo.parse(text.replace('KIND', kind).replace('FUSION', fusion))
  assert copies.copied_slices(ops, {(2, 3, 4)}) == copied
  # Other arrays, such as what is staged, are no weights.
  assert copies.copied_slices(ops, {(2, 4, 3)}) == 0


@pytest.mark.parametrize(
  'line, longest',
  [
    ('f32[4,1000] sort(%x), dimensions={1}, to_apply=%less', 1000),
    ('(f32[50,7], s32[50,7]) sort(%x, %i), dimensions={0}, to_apply=%less', 50),
    ('f32[4,300] custom-call(%x), custom_call_target="__cub$DeviceSort"', 300),
    # Of 9 numbers the 2 largest.
    ('(f32[2], s32[2]) topk(%long), k=2, largest=true', 9),
    ('f32[4,1000] add(%x, %x)', 0),
  ],
)
def test_the_longest_row_that_is_sorted(line, longest):
  text = entry(line).replace('{\n', '{\n  %long = f32[9] parameter(0)\n', 1)
  assert copies.longest_sort(hlo.parse(text)) == longest
