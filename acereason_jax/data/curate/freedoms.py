"""Programming problems of which several outputs are right.

The statement says that any of several answers will do, that their order or
letter case is free, that an error is allowed, or that better ones score more.
"""

import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data import tolerance
from acereason_jax.data.curate import demands, gates, statements
from acereason_jax.data.curate.values import Row

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
_SEVERAL = gates.gates(
  # If there are multiple answers, print any of them.
  r'\b(?:multiple|several|many|more than one|various|different|two or more)'
  rf' (?:\w+ ){{0,3}}?{_RIGHT}\b[^.?!\n]{{0,80}}?[,.;]? ?[^.?!\n]{{0,60}}?'
  rf'\b(?:any|either|an arbitrary|one) (?:of (?:them|these|those|the)|one|valid'
  rf'|such|correct|possible|suitable|optimal|{_RIGHT})\b'
  rf'|\b{_OUTPUT} (?:any|an arbitrary|either)(?: one)?(?: of)?(?: the| these|'
  rf' those| them)? ?(?!missing|remaining|other|extra|additional|more|blank|trailing|leading|duplicate|negative|repeated)(?:\w+ ){{0,2}}?(?:{_RIGHT}|one)\b(?! (?:as|with) )'
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
  r'(?:accepted|acceptable|fine|ok|okay|will do|would do|permitted|tolerated|allowed(?! to)'
  r'|full (?:marks|points|score|credit)|(?:considered|counted|graded|judged|treated|deemed|regarded|taken) (?:as |to be )?(?:correct|right|valid)|good enough|suffices?|equally good|enough|works|do)'
)
_FREE = gates.gates(
  # Any pair that satisfies it gets full marks; both are fine.
  rf'\b(?:any|either|whichever)\b[^.?!\n;]{{0,80}}?\b(?:is|are|be|gets?|receives?|will|would|may|can|scores?|earns?|counts?)\b[^.?!\n;]{{0,20}}?\b{_FULL}(?= ?(?:[.,;:)!]|by\b|as\b|\Z|here))'
  rf'|\b(?:all|both|every|each) (?:of (?:them|these|those)|(?:\w+ ){{0,3}}?{_RIGHT})? ?(?:\w+ ){{0,4}}?(?:is|are|be|gets?|will|would|may|can|counts?)\b[^.?!\n;]{{0,20}}?\b{_FULL}(?= ?(?:[.,;:)!]|by\b|as\b|\Z))'
  # Choose any, if there are several; whichever you like; no matter which.
  rf'|\b(?<!n\'t )(?<!not )(?:{_OUTPUT}|choose|pick|take|select|use|show|name|provide|produce|list|present|supply|submit|go with|report)'
  r' (?:just |only |simply )?(?:any|either|whichever|whatever|an arbitrary|arbitrary) ?(?:one|of them|of these|of those)?(?= ?(?:[.;)!]|\Z|if (?:there|several|more|multiple|many)|you (?:like|want|prefer|wish|please|choose)))'
  r'|\b(?:no|does not|doesn\'t|do not|don\'t) (?:matter|care|mind) which(?: one)?(?= ?(?:[.,;)!]|\Z|of|you|is printed|is output|solution|answer))'
  r'|\bwhich(?:ever)?(?: one)? (?:of (?:them|these) )?(?:you|to) (?:print|output|choose|return|give|find|report|show|like|prefer|want)(?: is)?(?: up to you)?(?= ?(?:[.,;)!]|\Z|up to|does|is))'
  r'|\b(?:of|at|by) your (?:own )?(?:choice|choosing|discretion|preference|liking)\b|\bup to you\b|\bas you (?:like|please|wish|prefer)\b'
  rf'|\b(?:{_OUTPUT}|show|give) (?:just |only |exactly )?(?:one|an example|some|a single one) of (?:them|these|those|the (?:possible|valid|correct|optimal|many|several))\b'
  rf'|\b(?:print|output|return|give|report|show|construct|find) (?:one|an example of|some|at least one) (?:such|possible|valid|suitable|feasible|correct|optimal|example|topological|spanning|solution|way)\b'
  r'|\b(?:edges|vertices|nodes|elements|members) of (?:some|any) (?:\w+ )?(?:spanning tree|tree|path|cycle|matching|set|cover|clique|solution)\b'
  r'|\barbitrary one\b(?= ?(?:[.,;)!]|\Z|of))',
)
_GAP = (
  r'(?:(?!(?:if|when|whether|that|which|than|where|for|without|not|number|count'
  r'|length|sum|size|cost|how|many|by|after|before|until|from|of|as|is|are|up|\w+ing)\b)[\w-]+ ){0,6}?'
)
# Print ... any peak: a free choice of what is printed.
_ANY_OBJECT = gates.gates(
  rf'\b(?<!n\'t )(?<!not )(?:{_OUTPUT}|show|name|provide|produce|list|report|build|determine|state|submit|exhibit) {_GAP}'
  r'(?:any|whichever|whatever|an arbitrary)\b(?! (?:number of|amount|two|three|\w+ing|missing|remaining|other|extra|additional|more|blank|trailing|leading'
  r'|duplicate|negative|repeated|further|spaces?|letters? can|one digit))'
)
# Several outputs there are, and the choice is free: two thoughts of one or two
# sentences.
_MANY = gates.gates(
  rf'\b(?:several|multiple|many|more than one|more than a single|two or more|at least two|various|different|alternative|other|another|numerous|plenty of|a lot of|lots of|not (?:just |only )?one) (?:\w+ ){{0,3}}?(?:{_RIGHT}|examples?|choices?|possibilit\w+|options|candidates?|exist|of them)\b'
  r'|\b(?:several|many|more|multiple) (?:exist|are possible|of them)|\bambigu\w+|\b(?:not|n\'t|never|non-?) ?(?:necessarily |always |be )*unique|\b(?:tie|ties)\b|\bin (?:more than one|multiple|several|many|different) ways?\b',
)
_FREELY = re.compile(
  r'\b(?:any(?! (?:number|two|three|of the following))|whichever|whatever|arbitrar\w+|either|one of (?:them|these|those|the)|(?:only|just|simply) (?:\w+ ){0,3}?one|free(?:ly)?|your (?:own )?choice|you (?:like|want|prefer|choose|please|wish)|no matter|not? ?matter|n\'t matter|accept\w*|fine|ok|okay|equally|all (?:of them )?(?:are|is|count|will|get)|which(?:ever)? one)\b',
  re.IGNORECASE,
)
# Yours need not be ours; it is checked by a program; nearer ones score more.
_YOURS = gates.gates(
  r'\(any\b[^)\n]{0,30}\)|\bwhatever (?:it|they|you|the (?:solution|answer))\b'
  r'|\b(?:ok|okay|fine|allowed|permitted|acceptable|all right|legal) (?:to (?:print|output|return|give|find)|if you)\b'
  r'|\b(?:print|output|return|find|report) some (?!more|of\b|text|digits|numbers\b)\w+'
  r'|\bany (?:\w+ )?(?:goes|passes|suffices|will do|works (?:too|as well|fine)|counts as)\b'
  r'|\bneed(?:n\'t| not) be (?:equal|identical|the same)|\bequally (?:right|good|correct|valid|acceptable|fine)\b'
  r'|\b(?:solution|answer|output|sample|one|construction) is (?:just |only )?one of (?:the )?(?:many|several)\b'
  r'|\bpartial (?:points|credit|score|marks)\b|\btreated as the same\b|\bany of [^.?!\n]{1,30} (?:may|can|could) be the (?:answer|output)\b'
  r'|\bthere (?:could|may|might|can) be (?:many|several|more than one)(?= ?(?:[.,;]|\Z))'
  r'|\b(?:checked|verified|validated) by (?:a|an|the|our) (?:\w+ )?(?:verifier|tool)'
  r'|\byour \w+ (?:\w+ ){0,2}?(?:doesn\'t have to|does not have to|need not|needn\'t|may not|might not|does not need to|doesn\'t need to|may|might|can) (?:\w+ )?(?:agree|match|coincide|differ|be (?:the same|equal|identical|different|as in))'
  r'|\bnot necessarily (?:sorted|in (?:any |the )?(?:\w+ )?order|the same|equal|identical|as in|the one|ours|that of)|\b(?:may|might|can|could) (?:be different from|differ from) (?:the|our|those|that)'
  r'|\b(?:checker|judge|grader|validator|jury|system) (?:program )?(?:will |only |then )?(?:tests?|checks?|verif\w+|validates?)\b'
  r'|\b(?:print|output|return|report) (?:just |only )?one of the (?!following|words|strings|letters|two|three|numbers \d|values)\w+'
  r'|\b(?:scores?|points|marks|grade)\b[^.?!\n]{0,80}\b(?:ratio|divided|relative|compared|best)\b[^.?!\n]{0,60}\byours?\b'
  r'|\byour \w+ is (?:scored|graded|ranked|rated) (?:by|relative|compared|against)'
  r'|\b(?:not|n\'t) (?:determined|defined|fixed|given) uniquely'
  r'|\b(?:checks?|verif\w+|tests?|validates?|examines?|confirms?) (?:that|whether|if) (?:your|the printed|the output|what you|it is a)'
  r'|\b(?:solutions?|answers?|outputs?|replies)\b(?: \w+| [^\w\s]\S*| \S{1,12}){0,6}? (?:is|are|will be|get|gets) (?:also |all |always )?accepted\b'
  r'|\b(?:points?|scores?|scored|marks?|graded|ranked)\b[^.?!\n]{0,50}\b(?:how (?:near|close|good|short|many of)|nearer|closer|better|the best known|quality)\b[^.?!\n]{0,60}\b(?:your|solution|answer|output|tour|plan)'
  r'|\b(?:ones?|what|which|whichever|them|any|order|way) (?:that )?you (?:like|want|prefer|please|wish|choose)\b'
  r'|\b(?:print|output|return|report)\b[^.?!\n]{0,80}\b(?:beginning|starting) (?:with|from|at|in) any\b'
)
_UNIQUE = re.compile(
  r'\b(?:exactly|at most|only|just) one\b|\bunique\b|\b(?:as|with) (?:-?\d|0)|\b(?:position|index|length|number|sum|cost) of any\b',
  re.IGNORECASE,
)
_ACCEPTING = gates.gates(
  r'\b(?:any|every|each|all|both|either)\b[^.?!\n]{0,80}?\b(?:is|are|would be|will be) (?:a |an |all |also |equally )?(?:correct|valid|right|acceptable|accepted|legal|good|possible) (?:answers?|outputs?|solutions?|results?)\b|'
  r'\b(?:print|find|giv|output|return|report)(?:t?ing|e)? (?:just |only )?(?:one|any)(?: of \w+| of the \w+| such \w+)? (?:is|suffices|will do|would do|does)\b|'
  r'\byou (?:can|may|could) (?:choose|decide|determine|select|pick) (?:the order|which (?:one|of)|in which order|how to order|freely|yourself)|'
  # We accept all; whichever you print counts as right; each of them is good.
  r'\b(?:we|checkers?|judges?|graders?|jury|system|tests?|validator|it) (?:will |shall |also |does |do )?(?:accepts?|takes?|allows?|tolerates?|permits?|admits?) (?:all|any|every|each|both|either|whatever|whichever|several|arbitrary|multiple)\b'
  r'|\b(?:all|any|every|each|both|either|whichever|many|several|multiple|arbitrary)\b[^.?!\n]{0,70}?\b(?:is|are|be|gets?) (?:all |also |always |each )?(?:accepted|acceptable|credited|tolerated)\b'
  r'|\b(?:any|each|every|all|both|either|whichever|whatever|every one)(?: one)?(?: of (?:those|them|these|the \w+(?: \w+)?)| you (?:print|choose|output|return|give|find)| example| output| answer| solution| choice)?,? (?:is|are|counts?|will be|would be|will|would|may be|can be) (?:as |considered |regarded as |taken as |judged |also |equally )?'
  r'(?:a |an )?(?:right|correct|valid|good|fine|ok|okay|acceptable|legal|do|suffice|enough|allowed)(?: answers?| outputs?| solutions?| ones?| choices?)?(?= ?(?:[.,;:)!]|\Z))'
  rf'|\b(?:any|either|one|all|each|an arbitrary one) of (?:the|them|these|those)\b[^.?!\n]{{0,40}}?\b(?:may|can|could|might|should) be (?:printed|output|returned|given|reported|shown|written|the answer|chosen for)'
  r'|\b(?:no|not a|isn\'t a|is not a|isn\'t any|not one|not just one|not only one) (?:(?:single|unique|one|sole)(?: right| correct| valid| possible)?|fixed|canonical) (?:answer|output|solution|way|order)'
  rf'|\b(?:several|many|different|multiple|various|more than one|a lot of|lots of|other) (?:\w+ ){{0,2}}?(?:{_RIGHT}|examples?) (?:\w+ )?(?:are|is|may be|might be|can be|could be) (?:possible|right|correct|accepted|valid|ok|fine|acceptable|good)\b'
  r'|\bit (?:is enough|suffices|is sufficient|is fine|is ok|is okay) (?:that|if|when|to (?:print|output|find|give) (?:one|any|some))'
  r'|\b(?:give|print|output|show|find|construct|produce|write|provide|return) (?:an|one|some|any) examples? (?:of|for|in which|where|that)\b'
  r'|\b(?:is|are|may be|can be|be) (?:chosen|assigned|selected|placed|numbered|named|labell?ed|picked) freely\b|\bfeel free\b|\bas long as (?:(?:it|they|your \w+) (?:is|are) (?:valid|correct|right|legal)|the rules (?:hold|are)|your)'
)
# It does not matter; it is of no importance.
_NO_MATTER = re.compile(
  r'\b(?:(?:does|do|did|will|would|is|are|need|should|shall)(?: not|n\'t)|not|neither|nor|no|never|hardly)\b[^.?!\n]{0,70}?\b(?:matters?|relevant|important|importance|significance|consequence|significant|difference|specified|prescribed|checked)\b'
  r'|\b(?:irrelevant|immaterial|unimportant|insignificant|inessential|ignored|disregarded|up to you|your choice|(?:plays?|play|has|have|makes?) no (?:role|part|influence|effect|difference))\b',
  re.IGNORECASE,
)
_OF_OUTPUT = re.compile(
  r'\border\b|\bwhich\b|\bcase\b|\bsequence\b|\bspelling\b|\bcapital\w*|\bdirection\b|\borientation\b|\bspaces?\b|\bsign\b',
  re.IGNORECASE,
)
_PRINTED = re.compile(
  r'\b(?:print\w*|output\w*|return\w*|report\w*|list\w*|written|write|answers?|results?|groups?|your|checker|lines?|pairs?|response)\b',
  re.IGNORECASE,
)
_COMPARED = re.compile(r'\b(?:compar\w+|sort|sort the)\b', re.IGNORECASE)
_COUNTED = re.compile(
  r'\b(?:how many|number of|ways|count|distinct|total)\b', re.IGNORECASE
)
# YES, Yes or yes.
_SINGLE = re.compile(r'\b(?:exactly|at most) one\b', re.IGNORECASE)
_SPELLINGS = gates.gates(
  r'\b(yes|no|true|false|possible|impossible|alice|bob|first|second|win|lose)\b["\'`\u201d]?(?:,|/| or| and)(?: or| and)? ["\'`\u201c]?(\1)\b',
)
_OPEN = gates.gates(
  # The pair need not be unique; it need not be the smallest.
  rf'\b(?:it|they|this|that|{_RIGHT}|(?:the|such|such an?|your) \w+) (?:\w+ )?(?:need(?:s)? not|needn\'t|may not|might not|is not|isn\'t|are not|aren\'t|does not have to|doesn\'t have to|do not have to|don\'t have to|does not need to|doesn\'t need to) (?:necessarily |be |always ){{0,2}}'
  r'(?:unique\b|(?:the |a )?(?:smallest|shortest|minimal|minimum|largest|best|optimal|cheapest|only) ?(?:one|possible|solution|answer)?(?= ?(?:[.,;)!]|\Z)))'
  r'|\b(?:do not|don\'t|need not|no need to|not (?:required|necessary|asked) to|does not have to|don\'t have to|do not have to|needn\'t) (?:have to |need to )?(?:minimi[sz]e|maximi[sz]e|optimi[sz]e|find the (?:optimal|shortest|smallest|best))'
  r'|\bsolutions? (?:that )?differ(?:s)? from (?:the )?(?:sample|ours|jury|example)|\byour (?:output|answer|solution) (?:may|can|might|could) (?:differ|be different|vary)'
  # Better solutions score more.
  r'|\b(?:your|the) (?:\w+ )?(?:score|points|grade|marks)\b[^.?!\n]{0,80}(?:best known|relative to (?:the )?(?:jury|best|judge|optim)|quality of|how (?:close|good|short)|(?:jury|judge)\'s|better (?:solution|answer|assignment|output))'
  r'|\b(?:better|closer|shorter|cheaper|smaller) (?:\w+ )?(?:solutions?|answers?|outputs?|assignments?|results?|tours?|plans?) (?:get|receive|score|earn|give|are (?:worth|rewarded))'
  r'|\b(?:checker|validator|verifier|judge) (?:program )?(?:that )?(?:will |only )?(?:verif|valid|checks? (?:that|whether|if|your)|accepts)'
  r'|\b(?:verified|checked|validated|graded|judged) by (?:a|an|the|our) (?:\w+ )?(?:checker|validator|program|script|judge)',
)
# What a rule chooses, and moves of a game, are not free.
_ORDERED = gates.gates(
  r'\border (?:of|in which|within|among|between|and|that)\b[^.?!\n;]{0,70}?\b(?:can be any|may be any|is any'
  r'thing|be anything|arbitrary|free|irrelevant|immaterial|unimportant|of no (?:importance|consequence)|up to you'
  r'|(?:not|n\'t|never) (?:matter|important|relevant|checked|fixed|considered|specified|count))'
  r'|\b(?:may|can|could) be (?:listed|printed|output|reported|written|returned|shown|named|put|separated|ordered) (?:in|from|by) (?:any|either|whatever|an arbitrary|arbitrary)\b'
  r'|\b(?:in|from) (?:any|either|an arbitrary|arbitrary|whatever|no (?:particular|special|specific|certain)) (?:order|sequence|end|direction)\b[^.?!\n]{0,30}\b(?:accepted|fine|ok|okay|allowed|permitted|will do)'
  r'|\b(?:come|appear|be|stand|follow) in (?:any|arbitrary|an arbitrary|whatever|no particular) order in (?:the|your) (?:output|answer|list)'
  r'|\b(?:edges|pairs|lines|numbers|vertices|names|indices|elements|items|answers|results|words) (?:may|can|could) (?:come|appear|be|stand|follow) in (?:any|arbitrary|an arbitrary|whatever|no particular) order\b(?! in (?:the|each|every)? ?input)',
)
_INPUT = re.compile(
  r'\b(?:input|visit\w*|mov(?:e|es|ed|ing)|chosen|picked|placed|selected|drawn|chose|players?|stones?|perform\w*|operations?|steps?|tak(?:e|es|en)|given (?:in|with|as)|appl(?:y|ied)|eat\w*|collect\w*)\b',
  re.IGNORECASE,
)
# An order of the output, not of the input or of moves.
_ORDER = gates.gates(
  r'\b(?:print|output|return|returned|printed|report|list|display|write'
  r'|answers?'
  r'|results?|solutions?|accepted)\b[^.?!\n]{0,100}?\bin (?:any|arbitrary|an'
  r' arbitrary|whatever|no particular|no specific) order\b'
  r'|\bin (?:any|arbitrary|an arbitrary) order,? (?:\w+ ){0,2}(?:is|are|will'
  r' be) accepted|\border of (?:the )?(?:output|answers?|results?|printed \w+'
  r'|returned \w+)\b[^.?!\n]{0,40}(?:does not|doesn\'t|is not|isn\'t|not)'
  r' (?:matter|important)',
)
_ERROR = gates.gates(
  r'\b(?:absolute|relative) or (?:absolute|relative) (?:error|difference)\b'
  r'|(?<!greatest )(?<!largest )(?<!smallest )(?<!mean )(?<!maximum )(?<!minimum )(?<!total )(?<!average )(?<!least )\b(?:absolute|relative) (?:error|precision|tolerance)\b'
  r'|\b(?:off by|deviat\w+|differ\w*) [^.?!\n]{0,40}\b(?:tolerance|error|at most \$?(?:10|1e|0\.0)|small amount)'
  r'|\brelative difference\b|\b(?:error|precision|tolerance|accuracy) of'
  r' (?:at most |no more than |less than )?\$?10'
  r'|\bwithin (?:an? )?(?:\w+ ){0,3}(?:error|tolerance)\b'
  r'|\b(?:answers?|outputs?) within \$?(?:10|1e|0\.0)|\bwithin (?:10|1e-)',
)
_CASE = gates.gates(
  r'\bnot case[- ]sensitive|\b(?:regardless|irrespective|independent) of (?:the |their |its )?(?:letter )?case\b|'
  r'\bcase[- ]insensitive|\bignor(?:es?|ing) (?:the )?(?:letter )?case\b'
  r'|\bcase (?:is|will be) ignored'
  r'|\bin (?:any|either|arbitrary) (?:letter )?case\b'
  r'|\b(?:upper|lower)[- ]?case (?:or|and|and/or) (?:upper|lower)[-'
  r' ]?case[^.?!\n]{0,60}'
  r'(?:accept|allow|recogni[sz]|match)|\bany register\b|\bin any case \(upper'
  r'|\bcase (?:of (?:the )?letters )?(?:does not|doesn\'t) matter'
  r'|\b(?:print|output) (?:each|every|any) letter [^.?!\n]{0,30}case',
)
_JUDGED = re.compile(
  r'\b(?:checker|checking|checked|judge|judging|judged|grader|grading|jury|your|accepted|compared|comparison)\b',
  re.IGNORECASE,
)
_OUTPUTS = re.compile(
  r'\b(?:print|output|answers?|letters?|yes|no|display|verdict|replies|response'
  r'|checker|judge)\b',
  re.IGNORECASE,
)


def special(row: Row) -> Mapping[str, Any] | None:
  words = statements.prepared(row.problem).text
  low = words.lower()
  for kind, found in (
    ('several', _several(words, low)),
    ('order', _ordered(words, low)),
    ('case', _case(words, low)),
    ('error', gates.search(_ERROR, words, low)),
  ):
    if found is None:
      continue
    # The judge allows an error whose size it can read.
    if kind != 'error' or not tolerance.allowed_error(row.problem):
      return {
        'kind': kind,
        'matched': statements.shown(found.string, *found.span()),
      }
  return None


def _several(words: str, low: str) -> re.Match | None:
  """Words that allow any of several outputs, not one that a rule chooses."""
  for match in gates.found(_SEVERAL, words, low):
    rest = _REST.match(words, match.end())[0]
    # Not one that is the only one anyway, and no question whether to.
    if rest.endswith('?') or _SINGLE.search(rest):
      continue
    if _ANY.search(match[0]) or not _CHOSEN.search(match[0] + rest):
      return match
  return (
    _free(words, low)
    or _open(words, low)
    or _any_object(words, low)
    or _accepting(words, low)
    or gates.search(_YOURS, words, low)
    or _many(words)
  )


def _open(words: str, low: str) -> re.Match | None:
  """Words that ask for no best output, and no rule that chooses one."""
  for match in gates.found(_OPEN, words, low):
    sentence = _sentence(words, match)
    if 'unique' not in match[0].lower() or not _CHOSEN.search(sentence):
      return match
  return None


def _many(words: str) -> re.Match | None:
  """Several outputs, and a free choice of them in this or the next sentence."""
  if not gates.search(_MANY, words, words.lower()):
    return None
  told = demands.sentences(words)
  for place, sentence in enumerate(told):
    match = gates.search(_MANY, sentence.text, sentence.text.lower())
    if match is None:
      continue
    both = (
      sentence.text + ' ' + ''.join(s.text for s in told[place + 1 : place + 2])
    )
    rest = both[match.end() :]
    if (
      _FREELY.search(rest)
      and not _CHOSEN.search(both)
      and not _COUNTED.search(both)
      and not _INPUT.search(both)
      and '?' not in both
    ):
      return match
  return None


def _any_object(words: str, low: str) -> re.Match | None:
  """Words that tell to print any of something."""
  for match in gates.found(_ANY_OBJECT, words, low):
    sentence = _sentence(words, match)
    asked = words[match.end() : match.end() + 200].split('.')[0].find('?') >= 0
    if (
      not asked
      and not _UNIQUE.search(sentence)
      and not _CHOSEN.search(match[0])
    ):
      return match
  return None


def _accepting(words: str, low: str) -> re.Match | None:
  """Words that accept several outputs."""
  for match in gates.found(_ACCEPTING, words, low):
    if not _COUNTED.search(_sentence(words, match)):
      return match
  return None


def _no_matter(words: str, what: str) -> re.Match | None:
  """Words by which the order or the case of an output is of no importance."""
  if not any(
    word in words
    for word in (
      'matter',
      'mport',
      'relevant',
      'signific',
      'consequence',
      'difference',
      'ignored',
      'disregard',
      'specified',
      'prescribed',
      'checked',
      'to you',
      'choice',
      'immaterial',
      'no role',
      'no part',
      'no effect',
      'no influence',
      'inessential',
    )
  ):
    return None
  before = ''
  for sentence in demands.sentences(words):
    told = sentence.text
    match = _NO_MATTER.search(told)
    of = _OF_OUTPUT.search(told)
    if (
      match
      and of
      and (of[0].lower() == 'case') == (what == 'case')
      and (_PRINTED.search(told) or _PRINTED.search(before[:60]))
      and not _INPUT.search(told)
      and not _COMPARED.search(told)
      and not _COUNTED.search(told)
    ):
      start = sentence.start
      return _NO_MATTER.search(words, start)
    before = told
  return None


def _free(words: str, low: str) -> re.Match | None:
  """Words that leave the choice of an output, in a sentence without a rule."""
  for match in gates.found(_FREE, words, low):
    sentence = _sentence(words, match)
    after = words[match.end() : match.end() + 200]
    asked = re.match(r'[^.!\n?]{0,160}\?', after)
    if not asked and not _CHOSEN.search(
      match[0] if _ANY.search(match[0]) else sentence
    ):
      return match
  return None


def _ordered(words: str, low: str) -> re.Match | None:
  """Words that leave the order of an output, not of moves or of the input."""
  if match := gates.search(_ORDER, words, low) or _no_matter(words, 'order'):
    return match
  return next(
    (
      match
      for match in gates.found(_ORDERED, words, low)
      if not _INPUT.search(_sentence(words, match))
    ),
    None,
  )


def _case(words: str, low: str) -> re.Match | None:
  """Words that allow small and capital letters in an output."""
  for match in gates.found(_CASE, words, low):
    sentence = _sentence(words, match)
    # A program may have to ignore case itself.
    own = match[0].lower().startswith('ignor')
    # 'In any case' at the start is no case of letters.
    if match[0].lower().startswith('in ') and not _OUTPUTS.search(
      sentence.split(match[0])[0]
    ):
      continue
    if _COMPARED.search(sentence) and not _JUDGED.search(sentence):
      continue
    if (_JUDGED if own else _OUTPUTS).search(sentence):
      return match
  for match in gates.found(_SPELLINGS, words, low):
    if match[1] != match[2] and match[1].lower() == match[2].lower():
      return match
  return _no_matter(words, 'case')


def _sentence(words: str, match: re.Match) -> str:
  """The sentence around a match, at most 200 characters on each side."""
  before = words[max(0, match.start() - 200) : match.start()]
  after = words[match.end() : match.end() + 200]
  start = max(before.rfind(mark) for mark in '.?!\n') + 1
  return before[start:] + match[0] + re.split(r'[.?!\n]', after, maxsplit=1)[0]
