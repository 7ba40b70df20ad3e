"""Words that accept several outputs of a program for one input.

'If there are several answers, print any.' The words that a rule chooses one of
them, as the smallest, say the opposite, and so do stories: any stone may move.
"""

import re

from acereason_jax.data.curate import demands, gates

_OUTPUT = (
  r'(?:print|output|return|report|display|write|give|find|answer|construct)'
)
_RIGHT = (
  r'(?:answers?|solutions?|outputs?|ways?|results?|possibilities|arrangements?'
  r'|permutations?|sequences?|strings?|arrays?|paths?|orders?|orderings?|sets?'
  r'|trees?|graphs?|matri(?:x|ces)|integers?|numbers?|pairs?|values?|routes?'
  r'|plans?|schedules?|constructions?|colou?rings?|partitions?|subsets?|cycles?'
  r'|subsequences?|such \w+|of them|optimal \w+|valid \w+|possible \w+'
  r'|correct \w+)'
)
# In the sentence after them, a rule chooses one of several.
_CHOSEN = re.compile(
  r'\b(?:lexicographical\w*|smallest|largest|minimum|minimal|maximum|maximal'
  r'|first'
  r'|last|earliest|latest|least|greatest|shortest|longest|leftmost|rightmost'
  r'|lowest|highest|number of|how many|count|modulo|alphabetical\w*|ascending'
  r'|descending|increasing|decreasing|sorted)\b',
  re.IGNORECASE,
)
_REST = re.compile(r'[^.?!\n]{0,160}\??')
_ANY = re.compile(r'\b(?:any|either|arbitrary)\b', re.IGNORECASE)
_SEVERAL = gates.Gated(
  # If there are multiple answers, print any of them.
  r'\b(?:multiple|several|many|more than one|various|different|two or more)'
  rf' (?:\w+ ){{0,3}}?{_RIGHT}\b[^.?!\n]{{0,80}}?[,.;]? ?[^.?!\n]{{0,60}}?'
  rf'\b(?:any|either|an arbitrary|one) (?:of (?:them|these|those|the)|one|valid'
  rf'|such|correct|possible|suitable|optimal|{_RIGHT})\b'
  rf'|\b{_OUTPUT} (?:any|an arbitrary|either)(?: one)?(?: of)?(?: the| these|'
  r' those| them)? ?(?!missing|remaining|other|extra|additional|more|blank'
  rf'|trailing|leading|duplicate|negative|repeated)(?:\w+ ){{0,2}}?(?:'
  rf'{_RIGHT}|one)\b(?! (?:as|with) )'
  r'|\b(?:print|output|return) any\b(?= ?(?:[.,;)!]|one\b|of\b|\Z))'
  r'|\bany (?:valid|correct|such|possible|optimal|feasible|right|of the|one'
  r' of the) ?(?:\w+ ){0,2}(?:\w+) (?:is|are|will be|would be|can be|may be) '
  r'(?:also )?(?:accepted|acceptable|correct|ok|fine|allowed|considered'
  r' correct)'
  r'|\b(?:you (?:can|may|could|should)|please|it is allowed to|feel free to)'
  rf' (?:\w+ )?{_OUTPUT} (?:any|either|an arbitrary)\b'
  r'|\b(?:answers?|solutions?|outputs?) (?:is|are|may be|might be|need)'
  r'(?: not|n\'t) (?:necessarily |be |to be )?unique'
  r'|\b(?:print|output|return) (?:the )?(?:index|indices|position|id|name|label'
  r'|number)s? of any\b|\b(?:print|output|return) one of (?:the )?(?:possible'
  r'|valid|such|correct|optimal|them|these|those)\b|\b(?:multiple|several|all'
  r'|different|many) (?:\w+ )?(?:answers|solutions|outputs) (?:are|may be'
  r'|will be'
  r'|can be) (?:accepted|allowed|possible)\b'
  r'|\b(?:any|all|each) (?:of (?:them|these|those) )?(?:will do|is fine|is ok'
  r'|(?:is|are|will be) accepted)\b'
  r'|\b(?:print|output|return) (?:whichever|whatever) (?:one )?(?:you|of)\b'
  r'|\baccepts? (?:any|every|all) (?:valid|correct|such|optimal|possible)\b'
  r'|\b(?:special|custom) (?:judge|checker)\b|\ba checker (?:will|is)\b',
)
_FULL = (
  r'(?:accepted|acceptable|fine|ok|okay|will do|would do|permitted|tolerated'
  r'|allowed(?! to)'
  r'|full (?:marks|points|score|credit)|(?:considered|counted|graded|judged'
  r'|treated|deemed|regarded|taken) (?:as |to be )?(?:correct|right|valid)'
  r'|good enough|suffices?|equally good|enough|works|do)'
)
_FREE = gates.Gated(
  # Any pair that satisfies it gets full marks; both are fine.
  rf'\b(?:any|either|whichever)\b[^.?!\n;]{{0,80}}?\b(?:is|are|be|gets?'
  r'|receives?|will|would|may|can|scores?|earns?'
  rf'|counts?)\b[^.?!\n;]{{0,20}}?\b{_FULL}(?= ?(?:[.,;:)!]|by\b|as\b|\Z'
  r'|here))'
  r'|\b(?:all|both|every|each) (?:of (?:them|these|those)'
  rf'|(?:\w+ ){{0,3}}?{_RIGHT})? ?(?:\w+ ){{0,4}}?(?:is|are|be|gets?|will'
  rf'|would|may|can|counts?)\b[^.?!\n;]{{0,20}}?\b{_FULL}(?= ?(?:[.,;:)!]'
  r'|by\b|as\b|\Z))'
  # Choose any, if there are several; whichever you like; no matter which.
  rf'|\b(?<!n\'t\s)(?<!not\s)(?:{_OUTPUT}|choose|pick|take|select|use|show'
  r'|name|provide|produce|list|present|supply|submit|go with|report)'
  r' (?:just |only |simply )?(?:any|either|whichever|whatever|an arbitrary'
  r'|arbitrary) ?(?:one|of them|of these|of those)?(?= ?(?:[.;)!]|\Z'
  r'|if (?:there|several|more|multiple|many)|you (?:like|want|prefer|wish'
  r'|please|choose)))'
  r'|\b(?:no|does not|doesn\'t|do not|don\'t) (?:matter|care'
  r'|mind) which(?: one)?(?= ?(?:[.,;)!]|\Z|of|you|is printed|is output'
  r'|solution|answer))'
  r'|\bwhich(?:ever)?(?: one)? (?:of (?:them|these) )?(?:you|to) (?:print'
  r'|output|choose|return|give|find|report|show|like|prefer'
  r'|want)(?: is)?(?: up to you)?(?= ?(?:[.,;)!]|\Z|up to|does|is))'
  r'|\b(?:of|at|by) your (?:own )?(?:choice|choosing|discretion|preference'
  r'|liking)\b|\bup to you\b|\bas you (?:like|please|wish|prefer)\b'
  rf'|\b(?:{_OUTPUT}|show|give) (?:just |only |exactly )?(?:one|an example'
  r'|some|a single one) of (?:them|these|those|the (?:possible|valid'
  r'|correct|optimal|many|several))\b'
  r'|\b(?:print|output|return|give|report|show|construct|find) (?:one'
  r'|an example of|some|at least one) (?:such|possible|valid|suitable'
  r'|feasible|correct|optimal|example|topological|spanning|solution|way)\b'
  r'|\b(?:edges|vertices|nodes|elements|members) of (?:some'
  r'|any) (?:\w+ )?(?:spanning tree|tree|path|cycle|matching|set|cover'
  r'|clique|solution)\b'
  r'|\barbitrary one\b(?= ?(?:[.,;)!]|\Z|of))',
)
_GAP = (
  r'(?:(?!(?:if|when|whether|that|which|than|where|for|without|not|number|count'
  r'|length|sum|size|cost|how|many|by|after|before|until|from|of|as|is|are'
  r'|up|\w+ing)\b)[\w-]+ ){0,6}?'
)
# Print ... any peak: a free choice of what is printed.
_ANY_OBJECT = gates.Gated(
  rf'\b(?<!n\'t\s)(?<!not\s)(?:{_OUTPUT}|show|name|provide|produce|list|report'
  rf'|build|determine|state|submit|exhibit) {_GAP}'
  r'(?:any|whichever|whatever|an arbitrary)\b(?! (?:number of|amount|two'
  r'|three|\w+ing|missing|remaining|other|extra|additional|more|blank'
  r'|trailing|leading'
  r'|duplicate|negative|repeated|further|spaces?|letters? can|one digit))'
)
# Several outputs there are, and the choice is free: two thoughts of one or two
# sentences.
_MANY = gates.Gated(
  r'\b(?:several|multiple|many|more than one|more than a single|two or more'
  r'|at least two|various|different|alternative|other|another|numerous'
  r'|plenty of|a lot of|lots of|not (?:just '
  rf'|only )?one) (?:\w+ ){{0,3}}?(?:{_RIGHT}|examples?|choices?'
  r'|possibilit\w+|options|candidates?|exist|of them)\b'
  r'|\b(?:several|many|more|multiple) (?:exist|are possible|of them)'
  r'|\bambigu\w+|\b(?:not|n\'t|never|non-?) ?(?:necessarily |always '
  r'|be )*unique|\b(?:tie|ties)\b|\bin (?:more than one|multiple|several'
  r'|many|different) ways?\b',
)
_FREELY = re.compile(
  r'\b(?:any(?! (?:number|two|three|of the following))|whichever|whatever'
  r'|arbitrar\w+|either|one of (?:them|these|those|the)|(?:only|just'
  r'|simply) (?:\w+ ){0,3}?one|free(?:ly)?|your (?:own )?choice|you (?:like'
  r'|want|prefer|choose|please|wish)|no matter|not? ?matter|n\'t matter'
  r'|accept\w*|fine|ok|okay|equally|all (?:of them )?(?:are|is|count|will'
  r'|get)|which(?:ever)? one)\b',
  re.IGNORECASE,
)
# Yours need not be ours; it is checked by a program; nearer ones score more.
_YOURS = gates.Gated(
  r'\(any\b[^)\n]{0,30}\)|\bwhatever (?:it|they|you|the (?:solution|answer))\b'
  r'|\b(?:ok|okay|fine|allowed|permitted|acceptable|all right'
  r'|legal) (?:to (?:print|output|return|give|find)|if you)\b'
  r'|\b(?:print|output|return|find|report) some (?!more|of\b|text|digits'
  r'|numbers\b)\w+'
  r'|\bany (?:\w+ )?(?:goes|passes|suffices|will do|works (?:too|as well'
  r'|fine)|counts as)\b'
  r'|\bneed(?:n\'t| not) be (?:equal|identical|the same)|\bequally (?:right'
  r'|good|correct|valid|acceptable|fine)\b'
  r'|\b(?:solution|answer|output|sample|one|construction) is (?:just '
  r'|only )?one of (?:the )?(?:many|several)\b'
  r'|\bpartial (?:points|credit|score|marks)\b|\btreated as the same\b'
  r'|\bany of [^.?!\n]{1,30} (?:may|can|could) be the (?:answer|output)\b'
  r'|\bthere (?:could|may|might|can) be (?:many|several'
  r'|more than one)(?= ?(?:[.,;]|\Z))'
  r'|\b(?:checked|verified|validated) by (?:a|an|the'
  r'|our) (?:\w+ )?(?:verifier|tool)'
  r'|\byour \w+ (?:\w+ ){0,2}?(?:doesn\'t have to|does not have to|need not'
  r'|needn\'t|may not|might not|does not need to|doesn\'t need to|may|might'
  r'|can) (?:\w+ )?(?:agree|match|coincide|differ|be (?:the same|equal'
  r'|identical|different|as in))'
  r'|\bnot necessarily (?:sorted|in (?:any |the )?(?:\w+ )?order|the same'
  r'|equal|identical|as in|the one|ours|that of)|\b(?:may|might|can'
  r'|could) (?:be different from|differ from) (?:the|our|those|that)'
  r'|\b(?:checker|judge|grader|validator|jury|system) (?:program )?(?:will '
  r'|only |then )?(?:tests?|checks?|verif\w+|validates?)\b'
  r'|\b(?:print|output|return|report) (?:just '
  r'|only )?one of the (?!following|words|strings|letters|two|three'
  r'|numbers \d|values)\w+'
  r'|\b(?:scores?|points|marks|grade)\b[^.?!\n]{0,80}\b(?:ratio|divided'
  r'|relative|compared|best)\b[^.?!\n]{0,60}\byours?\b'
  r'|\byour \w+ is (?:scored|graded|ranked|rated) (?:by|relative|compared'
  r'|against)'
  r'|\b(?:not|n\'t) (?:determined|defined|fixed|given) uniquely'
  r'|\b(?:checks?|verif\w+|tests?|validates?|examines?|confirms?) (?:that'
  r'|whether|if) (?:your|the printed|the output|what you|it is a)'
  r'|\b(?:solutions?|answers?|outputs?|replies)\b(?: \w+| [^\w\s]\S*'
  r'| \S{1,12}){0,6}? (?:is|are|will be|get|gets) (?:also |all '
  r'|always )?accepted\b'
  r'|\b(?:points?|scores?|scored|marks?|graded'
  r'|ranked)\b[^.?!\n]{0,50}\b(?:how (?:near|close|good|short|many of)'
  r'|nearer|closer|better|the best known|quality)\b[^.?!\n]{0,60}\b(?:your'
  r'|solution|answer|output|tour|plan)'
  r'|\b(?:ones?|what|which|whichever|them|any|order'
  r'|way) (?:that )?you (?:like|want|prefer|please|wish|choose)\b'
  r'|\b(?:print|output|return|report)\b[^.?!\n]{0,80}\b(?:beginning'
  r'|starting) (?:with|from|at|in) any\b'
)
_UNIQUE = re.compile(
  r'\b(?:exactly|at most|only|just) one\b|\bunique\b|\b(?:as|with) (?:-?\d'
  r'|0)|\b(?:position|index|length|number|sum|cost) of any\b',
  re.IGNORECASE,
)
_ACCEPTING = gates.Gated(
  r'\b(?:any|every|each|all|both|either)\b[^.?!\n]{0,80}?\b(?:is|are'
  r'|would be|will be) (?:a |an |all |also |equally )?(?:correct|valid|right'
  r'|acceptable|accepted|legal|good|possible) (?:answers?|outputs?'
  r'|solutions?|results?)\b|'
  r'\b(?:print|find|giv|output|return|report)(?:t?ing|e)? (?:just '
  r'|only )?(?:one|any)(?: of \w+| of the \w+| such \w+)? (?:is|suffices'
  r'|will do|would do|does)\b|'
  r'\byou (?:can|may|could) (?:choose|decide|determine|select'
  r'|pick) (?:the order|which (?:one|of)|in which order|how to order|freely'
  r'|yourself)|'
  # We accept all; whichever you print counts as right; each of them is good.
  r'\b(?:we|checkers?|judges?|graders?|jury|system|tests?|validator'
  r'|it) (?:will |shall |also |does |do )?(?:accepts?|takes?|allows?'
  r'|tolerates?|permits?|admits?) (?:all|any|every|each|both|either|whatever'
  r'|whichever|several|arbitrary|multiple)\b'
  r'|\b(?:all|any|every|each|both|either|whichever|many|several|multiple'
  r'|arbitrary)\b[^.?!\n]{0,70}?\b(?:is|are|be|gets?) (?:all |also |always '
  r'|each )?(?:accepted|acceptable|credited|tolerated)\b'
  r'|\b(?:any|each|every|all|both|either|whichever|whatever'
  r'|every one)(?: one)?(?: of (?:those|them|these|the \w+(?: \w+)?)'
  r'| you (?:print|choose|output|return|give|find)| example| output| answer'
  r'| solution| choice)?,? (?:is|are|counts?|will be|would be|will|would'
  r'|may be|can be) (?:as |considered |regarded as |taken as |judged |also '
  r'|equally )?'
  r'(?:a |an )?(?:right|correct|valid|good|fine|ok|okay|acceptable|legal|do'
  r'|suffice|enough|allowed)(?: answers?| outputs?| solutions?| ones?'
  r'| choices?)?(?= ?(?:[.,;:)!]|\Z))'
  r'|\b(?:any|either|one|all|each|an arbitrary one) of (?:the|them|these'
  rf'|those)\b[^.?!\n]{{0,40}}?\b(?:may|can|could|might'
  r'|should) be (?:printed|output|returned|given|reported|shown|written'
  r'|the answer|chosen for)'
  r'|\b(?:no|not a|isn\'t a|is not a|isn\'t any|not one|not just one'
  r'|not only one) (?:(?:single|unique|one|sole)(?: right| correct| valid'
  r'| possible)?|fixed|canonical) (?:answer|output|solution|way|order)'
  r'|\b(?:several|many|different|multiple|various|more than one|a lot of'
  rf'|lots of|other) (?:\w+ ){{0,2}}?(?:{_RIGHT}|examples?) (?:\w+ )?(?:are'
  r'|is|may be|might be|can be|could be) (?:possible|right|correct|accepted'
  r'|valid|ok|fine|acceptable|good)\b'
  r'|\bit (?:is enough|suffices|is sufficient|is fine|is ok|is okay) (?:that'
  r'|if|when|to (?:print|output|find|give) (?:one|any|some))'
  r'|\b(?:give|print|output|show|find|construct|produce|write|provide'
  r'|return) (?:an|one|some|any) examples? (?:of|for|in which|where|that)\b'
  r'|\b(?:is|are|may be|can be|be) (?:chosen|assigned|selected|placed'
  r'|numbered|named|labell?ed|picked) freely\b|\bfeel free\b'
  r'|\bas long as (?:(?:it|they|your \w+) (?:is|are) (?:valid|correct|right'
  r'|legal)|the rules (?:hold|are)|your)'
)
COUNTED = re.compile(
  r'\b(?:how many|number of|ways|count|distinct|total)\b', re.IGNORECASE
)
# YES, Yes or yes.
_ASKED = re.compile(r'[^.!\n?]{0,160}\?')
_SINGLE = re.compile(r'\b(?:exactly|at most) one\b', re.IGNORECASE)
_OPEN = gates.Gated(
  # The pair need not be unique; it need not be the smallest.
  rf'\b(?:it|they|this|that|{_RIGHT}|(?:the|such|such an?'
  r'|your) \w+) (?:\w+ )?(?:need(?:s)? not|needn\'t|may not|might not'
  r'|is not|isn\'t|are not|aren\'t|does not have to|doesn\'t have to'
  r'|do not have to|don\'t have to|does not need to'
  rf'|doesn\'t need to) (?:necessarily |be |always ){{0,2}}'
  r'(?:unique\b|(?:the |a )?(?:smallest|shortest|minimal|minimum|largest'
  r'|best|optimal|cheapest|only) ?(?:one|possible|solution'
  r'|answer)?(?= ?(?:[.,;)!]|\Z)))'
  r'|\b(?:do not|don\'t|need not|no need to|not (?:required|necessary'
  r'|asked) to|does not have to|don\'t have to|do not have to'
  r'|needn\'t) (?:have to |need to )?(?:minimi[sz]e|maximi[sz]e|optimi[sz]e'
  r'|find the (?:optimal|shortest|smallest|best))'
  r'|\bsolutions? (?:that )?differ(?:s)? from (?:the )?(?:sample|ours|jury'
  r'|example)|\byour (?:output|answer|solution) (?:may|can|might'
  r'|could) (?:differ|be different|vary)'
  # Better solutions score more.
  r'|\b(?:your|the) (?:\w+ )?(?:score|points|grade'
  r'|marks)\b[^.?!\n]{0,80}(?:best known|relative to (?:the )?(?:jury|best'
  r'|judge|optim)|quality of|how (?:close|good|short)|(?:jury|judge)\'s'
  r'|better (?:solution|answer|assignment|output))'
  r'|\b(?:better|closer|shorter|cheaper|smaller) (?:\w+ )?(?:solutions?'
  r'|answers?|outputs?|assignments?|results?|tours?|plans?) (?:get|receive'
  r'|score|earn|give|are (?:worth|rewarded))'
  r'|\b(?:checker|validator|verifier|judge) (?:program )?(?:that )?(?:will '
  r'|only )?(?:verif|valid|checks? (?:that|whether|if|your)|accepts)'
  r'|\b(?:verified|checked|validated|graded|judged) by (?:a|an|the'
  r'|our) (?:\w+ )?(?:checker|validator|program|script|judge)',
)
INPUT = re.compile(
  r'\b(?:input|visit\w*|mov(?:e|es|ed|ing)|chosen|picked|placed|selected'
  r'|drawn|chose|players?|stones?|perform\w*|operations?|steps?|tak(?:e|es'
  r'|en)|given (?:in|with|as)|appl(?:y|ied)|eat\w*|collect\w*)\b',
  re.IGNORECASE,
)


def several(words: str, small: str) -> re.Match | None:
  """Words that allow any of several outputs, not one that a rule chooses."""
  for match in _SEVERAL.finditer(words, small):
    rest = _REST.match(words, match.end())[0]
    # Not one that is the only one anyway, and no question whether to.
    if rest.endswith('?') or _SINGLE.search(rest):
      continue
    if _ANY.search(match[0]) or not _CHOSEN.search(match[0] + rest):
      return match
  return (
    _free(words, small)
    or _open(words, small)
    or _any_object(words, small)
    or _accepting(words, small)
    or _YOURS.search(words, small)
    or _many(words, small)
  )


def _open(words: str, small: str) -> re.Match | None:
  """Words that ask for no best output, and no rule that chooses one."""
  for match in _OPEN.finditer(words, small):
    sentence = demands.around(words, match)
    if 'unique' not in match[0].lower() or not _CHOSEN.search(sentence):
      return match
  return None


def _many(words: str, small: str) -> re.Match | None:
  """Several outputs, and a free choice of them in this or the next sentence."""
  if not _MANY.admits(small):
    return None
  told = demands.sentences(words)
  for place, sentence in enumerate(told):
    match = _MANY.search(sentence.text, gates.small(sentence.text))
    if match is None:
      continue
    both = (
      sentence.text + ' ' + ''.join(s.text for s in told[place + 1 : place + 2])
    )
    rest = both[match.end() :]
    if (
      _FREELY.search(rest)
      and not _CHOSEN.search(both)
      and not COUNTED.search(both)
      and not INPUT.search(both)
      and '?' not in both
    ):
      return match
  return None


def _any_object(words: str, small: str) -> re.Match | None:
  """Words that tell to print any of something."""
  for match in _ANY_OBJECT.finditer(words, small):
    sentence = demands.around(words, match)
    asked = words[match.end() : match.end() + 200].split('.')[0].find('?') >= 0
    if (
      not asked
      and not _UNIQUE.search(sentence)
      and not _CHOSEN.search(match[0])
    ):
      return match
  return None


def _accepting(words: str, small: str) -> re.Match | None:
  """Words that accept several outputs."""
  for match in _ACCEPTING.finditer(words, small):
    if not COUNTED.search(demands.around(words, match)):
      return match
  return None


def _free(words: str, small: str) -> re.Match | None:
  """Words that leave the choice of an output, in a sentence without a rule."""
  for match in _FREE.finditer(words, small):
    sentence = demands.around(words, match)
    after = words[match.end() : match.end() + 200]
    if not _ASKED.match(after) and not _CHOSEN.search(
      match[0] if _ANY.search(match[0]) else sentence
    ):
      return match
  return None
