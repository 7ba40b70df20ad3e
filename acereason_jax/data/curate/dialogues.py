"""Programming problems whose programs talk to a judge.

What is told is a dialogue: the program asks, somebody replies, and it reads the
reply before it asks again. Queries of the input have no reply to read.
"""

from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate import demands, gates, statements
from acereason_jax.data.curate.values import Row

_INTERACTIVE = gates.Gated(
  r'\b(?:responses?|reply|replies|answers?) (?:of|from|by) the (?:judge|jury'
  r'|grader|interactor)\b|\bflush (?:after|your|stdout)\b'
  r'|\binteractive (?:problem|task|mode|program|protocol|judge|communication)'
  r'|\bis interactive\b|\binteractors?\b|\binteraction (?:protocol|format|with'
  r' (?:the )?(?:judge|jury|grader|system|interactor))'
  r'|\bflush(?:ing|ed|es)? (?:the |your |its |standard )?(?:standard'
  r' )?(?:output'
  r'|stdout|buffer|stream)|\b(?:output|stdout) (?:must|should|needs to|has'
  r' to) be flushed|\bfflush\b|\bstdout\.flush|\bcout\.flush|\bflush=true'
  r'|\b(?:output|print|end of line|query|line),? (?:do not|don\'t) forget to'
  r' flush|\b(?:to|then|and|should|must) flush\b(?= ?[.,;)]| after| once| it\b)'
  r'|\b(?:judge|jury|grader) will (?:answer|reply|respond|tell)\b'
  r'|\b(?:judge|jury|grader|jury\'s program|system|checker) (?:will'
  r' )?(?:respond|repl|answers? (?:your|each|the) (?:quer|question))'
  r'|\b(?:communicates?|interacts?|talks?) (?:with|to) (?:the |an? )?(?:judge'
  r'|jury|grader|hidden|interactor|program|library|system|testing)'
  r'|\b(?:ask|make|perform|send|submit|use) (?:up to|at most|no more than|not'
  r' more than) [^.?!\n]{1,25}(?:queries|questions|requests|guesses|calls)\b'
  r'|\b(?:output|print)(?:t?ing|s)? [^.?!\n]{0,30}["\'`\u201c]\? '
  r'|\b(?:output|print)(?:t?ing|s)? (?:a line |a single line |one line )?'
  r'(?:in the (?:form|format) |of the form |containing |with'
  r' )?["\'`$\u201c]{0,3}\? '
  r'|\b(?:pre-?defined|given|provided|hidden|following)? ?(?:API|interface)s?\b'
  r'[^.?!\n]{0,40}\b(?:guess|isbadversion|knows|read4|query|reader|which'
  r' (?:will )?returns?|is (?:already )?defined for you|that returns)\b'
  r'|\byou (?:can|may|must|should) (?:only )?(?:access|call|use) (?:the|this'
  r'|it|an)'
  r' ?(?:\w+ )?(?:API|interface)\b',
)

_ASKED = (
  r'(?:queries|query|questions?|guess(?:es)?|requests?|proposals?|weighings?'
  r'|probes?|calls?|measurements?|comparisons?|attempts?|tries|checks?'
  r'|lookups?|trials?|pings?)'
)
_ASKS = (
  r'(?:ask|quer(?:y|ies)|guess|send|probe|request|propose|call|type'
  r'|name|weigh|compare|test|check|exchange)(?:e?s|ed|ing)?'
)
_SAYS = (
  r'(?:print|output|write|send|type|say|ask|query|guess|put|submit'
  r'|give|exchange|writ|call|read off|probe)(?:e?s|ed|ing|ting)?'
)
_HEARS = (
  r'(?:read|reads|get|gets|receive|receives|wait|waits|learn|learns'
  r'|see|sees|hear|hears|is told|are told)'
)
_PARTNER = (
  r'(?:judges?|jury|grader|checker|interactor|oracle|opponent|adversary'
  r'|enemy|evaluator|tester|verifier|judging program|contest (?:system'
  r'|server|software)'
  r'|testing system|system|server|library|other side|other program|computer'
  r'|device|host|ours|(?:our|the other) (?:program|bot|robot|side))'
)
# What a talk between a program and a judge has; a mark each. Three make one.
_MARKS = tuple(
  gates.Gated(pattern)
  for pattern in (
    # Who is spoken to: the program.
    r'\b(?:you|u)(?:\'ll)? (?!know that|all|are (?:given|a|an)\b|have (?:a'
    r'|an|n)\b)|\byour (?:program|solution|code|submission|bot|last|next'
    r'|first|moves?|turn|guess\w*|quer\w+|question\w*|request\w*|bid'
    r'|strategy)\b|\b(?:the|a) (?:program|solution) (?:may|can|must|should'
    r'|asks|prints|has to)\b',
    # Who speaks to it.
    rf'\b(?:the|an?|our|this|its) (?:\w+ )?{_PARTNER}\b(?!\'s? (?:of'
    r'|office))|\bwe (?:will |then )?(?:answer|reply|respond|send|tell'
    r'|return|say)|\b(?:against|versus|vs\.?|with|to) (?:the '
    rf'|an? )?(?:\w+ )?{_PARTNER}\b|\b(?:jury|judge|grader|library)\'s\b'
    r'|\bI (?:will |then )?(?:print|answer|say|tell|reply)\b'
    r'|\b(?:provided|supplied|library) (?:\w+ )?(?:function|method|routine'
    rf'|procedure)s?\b|\b\w{{2,20}}(?:\.\w{{2,20}})?\([\w, ]{{0,20}}\)(?: (?:is'
    r'|are) (?:provided|given|available|defined|offered)| returns| tells'
    r'| replies)',
    # The program asks.
    r'\b(?:you|your (?:program|solution|code|submission|bot)|it'
    r'|the program) (?:can |may |must |should |will |could |are allowed to '
    rf'|have to |only |then |also |first ){{0,3}}(?:{_ASKS}|have asked|make'
    rf'|makes|use|perform)\b|\byour (?:\w+ )?{_ASKED}\b|\bto (?:learn'
    r'|find out|ask|query|get to know)\b|\bwhat you have asked\b|\b(?:each'
    r'|every|a|one|any|the) (?:valid |invalid |such )?(?:query|question'
    r'|guess|request|ping|probe)\b(?! (?:mark|followed|is|are|of type|i\b'
    r'|consists|has|contains|asks|gives|in the input))',
    # So often, and no more.
    r'\b(?:\$?\d[\d, ]*\$?|\$?\d*n(?: ?[+-] ?\d)?\$?|k|q|ten|twenty|up to'
    r'|at most|no more than|within|limit\w*|maximum|only'
    rf'|few\w*) (?:\w+ ){{0,2}}?(?:{_ASKED}|rounds|turns|steps'
    r'|tries)\b(?! (?:per|a (?:second|day|minute)))|\b(?:at most'
    rf'|no more than|up to|within) \S{{1,8}} times\b|\b(?:ask|query|call'
    rf'|guess|probe)\w*\b[^.?!\n]{{0,40}}\b(?:twice|once|\w+ times)\b'
    rf'|\beach of (?:the )?\$?\w{{1,6}}\$? (?:rounds|turns)'
    rf'|\b{_ASKED} (?:limit|are (?:granted|allowed|permitted)|remain)'
    rf'|\bexceed\w*\b[^.?!\n]{{0,40}}{_ASKED}|\b(?:number|limit) of (?:your '
    rf'|the |earlier |allowed )?{_ASKED}',
    # It is answered.
    r'\b(?:repl(?:y|ies|ied)|responses?|responds?|feedback|answers? (?:with'
    r'|you|your|to|of the|from|after|"|<|it|each|whether)|answered'
    r'|gets? (?:back|an answer|the)|send back|sends? back|prints? back'
    r'|tells? you|told|(?:comes?|arrives?|is given|appears?|follows?'
    r'|stands?) (?:on|as|in) the (?:next line|input)|you (?:can |may |will '
    r'|then )?(?:learn|receive|read|see)|\byou (?:will )?get (?:the|its|an?'
    r'|back|one) (?:\w+ )?(?:answer|reply|number|value|result|distance|xor'
    r'|sum|sign|parity|bit)|what it (?:displays|says|prints|returns|shows)'
    r'|distance|gives? back|receives?|it (?:then )?(?:returns|prints|says'
    r'|writes)|respond)\b',
    # What is asked for is not in the input.
    r'\b(?:hidden|secret|unknown|concealed|unseen|mystery|invisible'
    r'|black box)\b|\bguess my\b|\b(?:not|isn\'t|aren\'t|never) (?:given'
    r'|known|shown|revealed|fixed|part of the input|in the input)\b'
    r'|\bno input\b|\b(?:picks?|picked|chosen|chooses?|has chosen|thinks? of'
    r'|thought of|hides?|has hidden|fixes|keeps|holds) (?:in secret '
    r'|at random )?(?:an?|the|some|one|x|\$)|\byou (?:do not|don\'t|cannot'
    r'|can\'t) (?:know|see)',
    # It prints first and reads then.
    rf'\b{_SAYS}\b[^.?!\n]{{1,90}}?(?:[,;:] ?|\band |\bthen '
    r'|\bwhich )(?:then |you |it |and |will '
    rf'|after \w+ (?:of )?(?:\w+ )?){{0,4}}{_HEARS}\b(?! (?:full|points'
    r'|marks|the next (?:line|number|test)|accepted|wrong|\w+ points))'
    r'|\b(?:after|once|when|whenever|each time|every time|for each'
    rf'|for every)\b[^.?!\n]{{0,70}}\b(?:you|it|program)? ?(?:will |then '
    rf'|must |should |to )?{_HEARS}\b (?:the|its|an?|one|back|in|["\'<]|if'
    rf'|whether|as|how|what)|\b(?:before|until)\b[^.?!\n]{{0,30}}\b(?:read'
    r'|receiv|next|answer|repl)\w*',
    # Commands in quotes, and verdicts on a talk that goes wrong.
    r'["\'`\u201c][?!](?: |["\'`\u201d])|\bformat \?|\b(?:print|output|send'
    r'|write)\w* [?!] |\b(?:wrong answer|idleness|terminate'
    r'|exit (?:immediately|at once)|stop (?:immediately|at once)|quit'
    r'|buffer(?:ed|ing)?|standard (?:input|output)|stdin|stdout|at once'
    r'|protocol|library|api)\b',
    # It is called so.
    r'\binteract\w*|\badaptive\b|\bcommunicat\w+|\bdialog\w*|\btalks?\b'
    r'|\bexchange\w*|\bplays? (?:\w+ ){0,3}(?:against|versus|vs|with)\b'
    r'|\bapi\b|\bsecond player\b|\b(?:last|own|next) move of\b',
  )
)
# No story has them: two marks.
_STRONG = gates.Gated(
  r'\b(?:jury|interactor|oracle|(?:checking|judging|grading|testing|contest'
  r'|other) (?:program|system|server|side)|our (?:program|bot|robot|side)'
  r'|(?:the|a|from|by|to|with|against) (?:grader'
  r'|checker))\b(?!\'?s? (?:answer (?:by|is)|of (?:a|the) (?:contest|show)))'
  r'|\bthe judge will (?:give|tell|print|answer|say|send)\b'
  r'|\bthe judge (?:then |will |also )?(?:answers?|repl\w+|prints?|sends?'
  r'|writes?|returns?|picks?|hides?|thinks?|responds?|tells)\b|\bjudge: '
  r'|\bjudge\'s (?:repl|respons|move|answer|turn)\w*|\bours\b',
)
# The input depends on the output: two marks.
_DEPENDS = gates.Gated(
  r'\b(?:next|following|new) (?:input|line|number|point|item|value|letter'
  r'|word|card|move|element|test)(?: line)? (?:is |will be '
  r'|only )?(?:only )?(?:given|appears?|comes?|arrives?|shown|revealed|sent'
  r'|read)\b[^.?!\n]{0,40}\b(?:after|once|when|as soon)|\bonly after (?:you'
  r'|your)\b|\bknown only to\b|\bonline problem\b|\bdepends? on (?:your'
  r'|what you)|\b(?:is|are) then (?:given|told|shown|sent)\b'
  r'|\bfunction is called with an object\b|\bwhose method\b|\bflush\('
  r'|\bshall exit\b|\btest is over\b|\bi am thinking\b'
  r'|\b[\'"][A-Z]{2,10} \w{1,3}[\'"]'
)
_LEAST_MARKS = 3
# Sentences in a row.
_NEAR = 4
# Marks of a show, logs and finished games: all is told in the input.
_OFFLINE = gates.Gated(
  r'\b(?:log|transcript|history|record) of\b|\bfinished game\b|\bin advance\b'
  r'|\bgiven (?:all |are )?(?:the )?(?:\w+ )?(?:replies|responses|moves'
  r'|guesses)\b'
  r'|\ball (?:queries|guesses|questions) are (?:given|known)|\boffline\b'
  r'|\bgiven beforehand\b|\b(?:hidden|secret) \w+ (?:is|are) given\b',
)


def interactive(row: Row) -> Mapping[str, Any] | None:
  """A talk with a judge, by its name or by three of its marks."""
  words, _, small = statements.prepared(row.problem)
  if match := _INTERACTIVE.search(words, small):
    return {'matched': statements.shown(words, *match.span())}
  told = not _OFFLINE.search(words, small) and _talk(words, small)
  return {'marks': [mark[:40] for mark in told]} if told else None


def _talk(words: str, small: str) -> list[str]:
  """The marks of a talk, if some sentences in a row have enough of them."""
  if len(_marks(words, small)) < _LEAST_MARKS:
    return []
  told = demands.sentences(words)
  for start in range(max(len(told) - _NEAR, 0) + 1):
    last = told[min(start + _NEAR, len(told)) - 1]
    part = words[told[start].start : last.end]
    found = _marks(part, gates.small(part))
    if len(found) >= _LEAST_MARKS:
      return found
  return []


def _marks(words: str, small: str) -> list[str]:
  """A match of each mark of a talk; what no story has counts more."""
  marks = (*_MARKS, _STRONG, _DEPENDS, _DEPENDS)
  found = (mark.search(words, small) for mark in marks)
  return [match[0] for match in found if match]
