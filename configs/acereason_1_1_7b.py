"""AceReason-Nemotron-1.1-7B: the stages of 2506.13284, from a model of its own.

    python -m acereason_jax.train --config=configs/acereason_1_1_7b.py \\
      --config.model=/models/the_sft_model --coordinator=auto

The order is that of 1.0 [1.1]. Other than there are the start (an SFT model on
Qwen2.5-Math-7B, ChatML), the prompt, the prompts of each math stage, and a
temperature that keeps the entropy near 0.3 from the first stage to the last.
Expected [1.1]: AIME24 72.6 at the end. Not measured by us: no accelerator ran
this yet.
The SFT model is yet to be put there by hand: --config.model names its folder.
Data, beside what acereason_7b.py says: a math row's `difficulty` is what R1
needs for it, in thousands of tokens. nvidia/AceReason-Math has no such field:
count it, or name all prompts for the first stage too:

    ... --config=configs/acereason_1_1_7b.py:without_difficulty
"""

from acereason_jax.config import base

acereason_7b = base.beside(__file__, 'acereason_7b')

# The next words of the released 1.1 prompts [K]; code is asked as in 1.0.
SYSTEM = (
  'You are a helpful and harmless assistant. You should think step-by-step.'
)
MATH_SUFFIX = '\n\nPlease place your final answer inside \\boxed{}.'
# Only what every one of 16 rollouts solves is dropped: at 24K and 32K [1.1]. By
# the ledger, see `hard` of acereason_7b.py; fewer than 16 verdicts would be
# right by chance too often.
NOT_SOLVED = dict(of=16, max_solved=15, source='ledger', tries=16)
FILTERS = {
  # Simple questions first, most of 2K to 4K R1 tokens [1.1]; then more of the
  # harder ones: here all, and no question has fewer than 2K.
  'math_8k': dict(max_difficulty=4.0),
  'math_24k': NOT_SOLVED,
  'math_32k': NOT_SOLVED,
}


def get_config(data=''):
  if data not in ('', 'without_difficulty'):
    raise ValueError(f'data {data!r}: there is: without_difficulty')
  c = acereason_7b.get_config()
  c.model = 'the_sft_model'
  c.prompt.system = SYSTEM
  c.prompt.suffix = MATH_SUFFIX
  # [1.1]: 0.85 held the entropy at 0.26-0.38; the gain and bounds are [open].
  # Each stage goes on with the temperature that the one before found.
  held = dict(
    fn='acereason_jax.rl.control:near_entropy',
    first=0.85,
    target=0.3,
    gain=0.05,
    low=0.6,
    high=1.2,
  )
  for stage in c.stages:
    stage['rollout']['temperature'] = held
    if own := FILTERS.get(stage['name']):
      stage['filter'] = own
  if data:
    del c.stages[0]['filter']
  return c
