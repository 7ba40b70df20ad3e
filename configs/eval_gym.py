r"""24 generators of reasoning-gym before training: what can SmolLM2-135M learn?

    pip install -e '.[gym]'
    python -m acereason_jax.evaluate --config=configs/eval_gym.py \
      --out=evals/gym

16 questions a generator, twice each, with two worked examples; all are drawn by
one engine. A task between 5 and 40% can be trained on as in reason_cpu.py.
docs/measured.md has the rates. Beware of tasks that a constant answers: most
texts hold a letter once, and most years are no leap years.
"""

from acereason_jax.config import base, evaluation

quickstart = base.beside(__file__, 'quickstart').get_config()

_SUM = 'State the final answer to the following arithmetic problem: {}'
_PRODUCT = (
  'Solve the following multiplication: {}. Give only the result as your final '
  'answer.'
)
_GCD = (
  'Find the Greatest Common Divisor (GCD) of these numbers: {}. Give only the '
  'GCD as your final answer.'
)
_FRACTION = (
  'Simplify the fraction {} to its lowest terms. Give only the simplified '
  'fraction as your final answer.'
)
_BITS = (
  'How many 1 bits are there in the binary representation of the number {}?'
)
_LETTER = 'How many times does the letter {} appear in the text: {}?'
_PRIMES = 'Count how many prime numbers there are between {} (inclusive) ?'
_HEADS = 'What is the probability of getting {} heads in 2 fair coin flips?'
_SISTERS = (
  '{} sisters and she also has {} brothers. How many sisters does {} brother '
  'have?'
)
_LEGS = (
  'Your task is to count how many legs there are in total when given a list of '
  'animals.\n\nNow, how many legs are there in total if you have {}?'
)
_SPELL = 'Spell this word backward (example: sun -> nus): {}'
_WORDS = (
  'Solve the following problem.\n\nProvide you answer as a comma-separated '
  'list of words with a space after the comma.\n\nReverse this list of words: '
  '{}'
)
_LEAP = 'Determine whether {} is a leap year. Respond with just Yes or No.'
_LARGER = (
  'Your task is to pick the largest/smallest number out of several options.\n\n'
  'Your output should be only the number of interest.\n\nNow, pick the {} '
  'number of the following candidates: {}'
)
_BASE = (
  'Your task is to convert a number between two different bases.\n\nIf the '
  'target base is > 10, use lowercase letters a-z for digits above 9.\n\nNow, '
  'convert the {}'
)

# Of each benchmark: the generator, its arguments, and two examples.
_TASKS = {
  'sum_2': (
    'chain_sum',
    dict(min_terms=2, max_terms=2, min_digits=1, max_digits=1),
    (_SUM.format('2 + 5 ='), '2 + 5 = \\boxed{7}'),
    (_SUM.format('9 - 4 ='), '9 - 4 = \\boxed{5}'),
  ),
  'sum_2_digits': (
    'chain_sum',
    dict(min_terms=2, max_terms=2, min_digits=2, max_digits=2),
    (_SUM.format('12 + 35 ='), '12 + 35 = \\boxed{47}'),
    (_SUM.format('59 - 24 ='), '59 - 24 = \\boxed{35}'),
  ),
  'sum_3': (
    'chain_sum',
    dict(min_terms=3, max_terms=3, min_digits=1, max_digits=1),
    (_SUM.format('2 + 5 - 3 ='), '2 + 5 = 7, 7 - 3 = \\boxed{4}'),
    (_SUM.format('9 - 4 + 1 ='), '9 - 4 = 5, 5 + 1 = \\boxed{6}'),
  ),
  'arithmetic': (
    'basic_arithmetic',
    dict(
      min_terms=2,
      max_terms=2,
      min_digits=1,
      max_digits=1,
      allow_parentheses=False,
      allow_negation=False,
    ),
    ('Calculate 3 * 4.', '3 * 4 = \\boxed{12}'),
    ('Calculate 8 - 5.', '8 - 5 = \\boxed{3}'),
  ),
  'product': (
    'products',
    dict(min_digits=1, max_digits=1),
    (_PRODUCT.format('3 * 4'), '3 * 4 = \\boxed{12}'),
    (_PRODUCT.format('7 * 2'), '7 * 2 = \\boxed{14}'),
  ),
  'product_digits': (
    'products',
    dict(min_digits=1, max_digits=2),
    (_PRODUCT.format('3 * 14'), '3 * 14 = \\boxed{42}'),
    (_PRODUCT.format('11 * 2'), '11 * 2 = \\boxed{22}'),
  ),
  'gcd': (
    'gcd',
    dict(min_value=2, max_value=20),
    (_GCD.format('12, 18'), '12 = 6 * 2, 18 = 6 * 3, so \\boxed{6}'),
    (_GCD.format('15, 10'), '15 = 5 * 3, 10 = 5 * 2, so \\boxed{5}'),
  ),
  'lcm': (
    'lcm',
    dict(min_value=2, max_value=10),
    (
      'Find the Least Common Multiple (LCM) of these numbers: 4, 6',
      '4 * 3 = 12, 6 * 2 = 12, so \\boxed{12}',
    ),
    (
      'Find the Least Common Multiple (LCM) of these numbers: 5, 10',
      '5 * 2 = 10, 10 * 1 = 10, so \\boxed{10}',
    ),
  ),
  'fraction': (
    'fraction_simplification',
    dict(
      min_value=1, max_value=9, min_factor=2, max_factor=5, styles=('plain',)
    ),
    (_FRACTION.format('6/8'), 'Divide by 2: \\boxed{3/4}'),
    (_FRACTION.format('10/15'), 'Divide by 5: \\boxed{2/3}'),
  ),
  'equations': (
    'simple_equations',
    dict(
      min_terms=2,
      max_terms=2,
      min_value=1,
      max_value=10,
      operators=('+', '-'),
      operators_weights=(0.5, 0.5),
    ),
    ('Solve for x: x + 3 = 8', 'x = 8 - 3 = \\boxed{5}'),
    ('Solve for k: k - 2 = 4', 'k = 4 + 2 = \\boxed{6}'),
  ),
  'sequence': (
    'number_sequence',
    dict(min_terms=4, max_terms=5, min_value=0, max_value=20, max_complexity=1),
    ('2, 4, 6, 8, ?', 'The next is \\boxed{10}'),
    ('3, 6, 12, 24, ?', 'The next is \\boxed{48}'),
  ),
  'bits': (
    'count_bits',
    dict(min_n=1, max_n=63),
    (_BITS.format('6'), '6 is 110, so \\boxed{2}'),
    (_BITS.format('13'), '13 is 1101, so \\boxed{3}'),
  ),
  'letters': (
    'letter_counting',
    dict(min_words=2, max_words=3),
    (_LETTER.format('"e"', '"the free man"'), '\\boxed{3}'),
    (_LETTER.format('"o"', '"on a boat"'), '\\boxed{2}'),
  ),
  'decimals': (
    'decimal_chain_sum',
    dict(
      min_terms=2,
      max_terms=2,
      min_digits=1,
      max_digits=1,
      min_decimal_places=1,
      max_decimal_places=1,
    ),
    (_SUM.format('2.5 + 1.3 ='), '2.5 + 1.3 = \\boxed{3.8}'),
    (_SUM.format('7.4 - 2.1 ='), '7.4 - 2.1 = \\boxed{5.3}'),
  ),
  'primes': (
    'count_primes',
    dict(min_n=1, max_n=20),
    (_PRIMES.format('4 and 12'), '5, 7, 11, so \\boxed{3}'),
    (_PRIMES.format('2 and 6'), '2, 3, 5, so \\boxed{3}'),
  ),
  'coins': (
    'coin_flip',
    dict(min_trials=2, max_trials=8),
    (_HEADS.format('exactly 1'), '2 of 4 ways: \\boxed{0.5}'),
    (_HEADS.format('at least 1'), '3 of 4 ways: \\boxed{0.75}'),
  ),
  'sisters': (
    'aiw',
    dict(max_entities=4),
    (
      _SISTERS.format('Mary has 2', '3', "Mary's"),
      'Mary and her 2 sisters: \\boxed{3}',
    ),
    (
      _SISTERS.format('Linda has 1', '2', "Linda's"),
      'Linda and her 1 sisters: \\boxed{2}',
    ),
  ),
  'legs': (
    'leg_counting',
    dict(min_animals=1, max_animals=2, min_instances=1, max_instances=4),
    (_LEGS.format('2 cows'), '2 * 4 = \\boxed{8}'),
    (_LEGS.format('1 spider, 2 humans'), '8 + 2 * 2 = \\boxed{12}'),
  ),
  'complex': (
    'complex_arithmetic',
    dict(min_real=-9, max_real=9, min_imag=-9, max_imag=9),
    (
      'Add the complex numbers: (1.0 + 2.0i) + (3.0 - 5.0i)',
      '\\boxed{4.0 - 3.0i}',
    ),
    (
      'Subtract the complex numbers: (4.0 + 2.0i) - (3.0 + 1.0i)',
      '\\boxed{1.0 + 1.0i}',
    ),
  ),
  'backward': (
    'spell_backward',
    dict(min_word_len=3, max_word_len=3),
    (_SPELL.format('cat'), '\\boxed{tac}'),
    (_SPELL.format('old'), '\\boxed{dlo}'),
  ),
  'words': (
    'word_sequence_reversal',
    dict(min_words=2, max_words=3),
    (_WORDS.format('one, red, sun'), '\\boxed{sun, red, one}'),
    (_WORDS.format('big, tree'), '\\boxed{tree, big}'),
  ),
  'leap': (
    'calendar_arithmetic',
    dict(year=2022, tasks=('is_leap_year',)),
    (_LEAP.format('2021'), '\\boxed{No}'),
    (_LEAP.format('2016'), '\\boxed{Yes}'),
  ),
  'larger': (
    'number_format',
    dict(
      min_num_candidates=2,
      max_num_candidates=2,
      min_n=1000,
      max_n=9999,
      max_delta=50.0,
    ),
    (_LARGER.format('largest', '1234.5 1240.1'), '\\boxed{1240.1}'),
    (_LARGER.format('smallest', '7,110 7,050.3'), '\\boxed{7050.3}'),
  ),
  'base': (
    'base_conversion',
    dict(min_base=2, max_base=10, min_value=1, max_value=30),
    (_BASE.format('base-10 number 5 to binary'), '\\boxed{101}'),
    (_BASE.format('base-3 number 12 to base-10'), '\\boxed{5}'),
  ),
}
# Their answers are texts, which their own scorers judge.
_OWN = frozenset(['backward', 'words'])


def get_config():
  c = evaluation.get_config()
  c.model = quickstart.model
  c.dtype = quickstart.dtype
  # As the model would be trained.
  c.sampling.update(temperature=1.0, top_p=1.0)
  c.engine.update(page=16, chunk=4)
  c.judge.workers = 1
  for name, (generator, arguments, *examples) in _TASKS.items():
    own = name in _OWN
    judge = evaluation.judge(
      f'acereason_jax.verifiers.{"gym" if own else "math"}:verify',
      reference=f'acereason_jax.verifiers.{"gym" if own else "math"}:reference',
      reasons=False,
    )
    c.benchmarks[name] = evaluation.benchmark(
      data=dict(
        fn='acereason_jax.evaluation.files:problems',
        rows=dict(
          fn='acereason_jax.data.gym:rows',
          generator=generator,
          arguments=arguments,
          split='train',
          count=16,
          seed=0,
          own_scorer=own,
        ),
      ),
      n=2,
      prompt=dict(system=quickstart.prompt.system, examples=tuple(examples)),
      max_tokens=quickstart.rollout.max_tokens,
      majority=False,
      judges=dict(strict=judge),
    )
  return c
