"""The names of units and currencies, and how each may be spelled."""

from acereason_jax.verifiers.answers.vocabulary import words

# In small letters: the name, then its other spellings.
_WORDS = """
degree degrees deg degs
percent percentage pct
unit units
inch inches in ins
foot feet ft
yard yards yd yds
mile miles mi
nautical_mile nautical_miles nmi
furlong furlongs
fathom fathoms
rod rods
league leagues
light_year light_years lightyear lightyears
parsec parsecs
astronomical_unit astronomical_units
angstrom angstroms
micron microns
acre acres
hectare hectares ha
gallon gallons gal gals
quart quarts qt qts
pint pints pt pts
cup cups
tablespoon tablespoons tbsp tbsps tbs
teaspoon teaspoons tsp tsps
fluid_ounce fluid_ounces fl_oz floz
barrel barrels bbl
bushel bushels
peck pecks
gram grams gramme grammes g gm gms
pound pounds
pound_mass lb lbs lbm
ounce ounces oz
stone stones
ton tons tonne tonnes metric_ton metric_tons
carat carats
slug slugs
second seconds sec secs s
minute minutes min mins
hour hours hr hrs h
day days d
week weeks wk wks
fortnight fortnights
month months
year years yr yrs
decade decades
century centuries
millennium millennia
am
pm
radian radians rad rads
steradian steradians
gradian gradians
arcminute arcminutes arcmin
arcsecond arcseconds arcsec
revolution revolutions rev revs
cycle cycles
beat beats
celsius centigrade degree_celsius degrees_celsius degc
fahrenheit degree_fahrenheit degrees_fahrenheit degf
kelvin kelvins degree_kelvin degrees_kelvin
meter meters metre metres m
liter liters litre litres l
newton newtons
joule joules
watt watts
volt volts
ampere amperes amp amps
ohm ohms
farad farads
henry henries henrys
coulomb coulombs
tesla teslas
weber webers
siemens
pascal pascals
hertz hz
mole moles mol
calorie calories cal cals
electronvolt electronvolts electron_volt electron_volts ev
bar bars
atmosphere atmospheres atm
torr
mmhg
erg ergs
dyne dynes
btu btus
horsepower horse_power hp
pound_force lbf
knot knots kts
decibel decibels
bit bits
byte bytes
pixel pixels
lumen lumens
lux
candela candelas
becquerel becquerels
curie curies
sievert sieverts
dalton daltons amu
ppm
ppb
dollar dollars usd buck bucks us_dollar us_dollars
cent cents
euro euros eur
pound_sterling pounds_sterling gbp sterling quid
penny pennies pence
yen jpy
yensign
yuan rmb cny renminbi
rupee rupees rs inr
paisa paise
won krw
ruble rubles rouble roubles rub
kopeck kopecks
franc francs chf
peso pesos mxn php
real_brl reais brl
rand_zar rands zar
lira liras
dirham dirhams aed
riyal riyals sar
dinar dinars
baht thb
ringgit ringgits myr
rupiah idr
dong vnd
shekel shekels ils nis
krona kronor krone kroner sek nok dkk
zloty zlotys pln
forint forints huf
taka bdt
naira ngn
cedi cedis ghs
shilling shillings
hong_kong_dollar hong_kong_dollars hkd
australian_dollar australian_dollars aud
canadian_dollar canadian_dollars cad
singapore_dollar singapore_dollars sgd
new_zealand_dollar new_zealand_dollars nzd
taiwan_dollar taiwan_dollars twd ntd
"""
CURRENCIES = words(
  'dollar cent euro pound_sterling yen yensign yuan rupee won ruble franc '
  'peso real_brl rand_zar dirham riyal baht ringgit rupiah dong shekel krona '
  'zloty forint taka naira hong_kong_dollar australian_dollar canadian_dollar '
  'singapore_dollar new_zealand_dollar taiwan_dollar'
)
# Currencies before a number; 'In', 'M' or 'won' there are not currencies.
BEFORE = words(
  'usd eur gbp jpy cny rmb inr rs krw rub chf mxn brl zar aed sar thb myr '
  'idr vnd ils nis sek nok dkk pln huf bdt ngn hkd aud cad sgd nzd twd ntd '
  'dollar dollars euro euros cent yensign'
)
# Units whose case counts: mW is not MW.
_SYMBOLS = {
  **{'C': 'C', 'N': 'newton', 'J': 'joule', 'W': 'watt', 'V': 'volt'},
  **{'A': 'ampere', 'K': 'kelvin', 'T': 'tesla', 'F': 'F', 'L': 'liter'},
  **{'Pa': 'pascal', 'Hz': 'hertz', 'dB': 'decibel', 'Sv': 'sievert'},
  **{'eV': 'electronvolt', 'Cal': 'kilocalorie', 'KB': 'kilobyte'},
}
_PREFIXES = dict(
  kilo='k', centi='c', milli='m', micro='u', nano='n', pico='p', mega='M',
  giga='G', tera='T', deci='d', hecto='h',
)  # fmt: skip
# A symbol, and the prefixes that it takes. Two capitals may be a segment, so
# only common combinations of two capitals are included.
_PREFIXED = dict(
  meter=('m', 'kilo centi milli micro nano deci hecto'),
  gram=('g', 'kilo centi milli micro nano'),
  liter=('L l', 'centi milli micro deci hecto kilo'),
  second=('s', 'milli micro nano pico'),
  newton=('N', 'kilo milli'),
  joule=('J', 'kilo milli mega giga'),
  watt=('W', 'kilo milli micro mega giga'),
  volt=('V', 'kilo milli micro mega'),
  ampere=('A', 'milli micro kilo'),
  ohm=('ohm', 'kilo mega milli'),
  farad=('F', 'micro nano pico milli'),
  coulomb=('C', 'milli micro nano'),
  tesla=('T', 'milli micro'),
  pascal=('Pa', 'kilo mega giga hecto'),
  hertz=('Hz', 'kilo mega giga tera'),
  mole=('mol', 'milli micro kilo'),
  calorie=('cal', 'kilo'),
  electronvolt=('eV', 'kilo mega giga'),
  bar=('bar', 'milli kilo'),
  byte=('B', 'kilo mega giga tera'),
  bit=('b bit', 'kilo mega giga'),
  sievert=('Sv', 'milli micro'),
)
_COMPOUNDS = {
  'mph': 'mile/hour',
  'kph kmh kmph': 'kilometer/hour',
  'mps': 'meter/second',
  'fps': 'foot/second',
  'rpm': 'revolution/minute',
  'rps': 'revolution/second',
  'psi': 'pound_mass/inch^2',
  'psf': 'pound_mass/foot^2',
  'mpg': 'mile/gallon',
  'bpm': 'beat/minute',
  'wpm': '?/minute',
  'gpm': 'gallon/minute',
  'cfs': 'foot^3/second',
  'cfm': 'foot^3/minute',
  'cc ccs': 'centimeter^3',
  'sqft': 'foot^2',
  'sqm': 'meter^2',
  'sqcm': 'centimeter^2',
  'sqkm': 'kilometer^2',
  'sqmi': 'mile^2',
  'sqin': 'inch^2',
  'Nm': 'newton*meter',
  'Wh': 'watt*hour',
  'kWh kwh KWh KWH': 'kilowatt*hour',
  'MWh': 'megawatt*hour',
  'mAh': 'milliampere*hour',
  'ftlb ftlbs': 'foot*pound_mass',
  'kilo kilos kgs kgm': 'kilogram',
}
# A name that stands for any of several units.
MEANINGS = {
  'pound': {'pound', 'pound_mass', 'pound_sterling', 'pound_force'},
  'yensign': {'yensign', 'yen', 'yuan'},
  'degree': {'degree', 'celsius', 'fahrenheit'},
  'ounce': {'ounce', 'fluid_ounce'},
  'C': {'C', 'coulomb', 'celsius'},
  'F': {'F', 'farad', 'fahrenheit'},
}


def factors(spelled: str) -> dict[str, int]:
  """The powers of the names in a unit as the table spells it."""
  above, *below = spelled.split('/')
  found = {}
  for part, sign in ((above, 1), *((b, -1) for b in below)):
    for factor in filter(None, part.split('*')):
      name, _, power = factor.partition('^')
      found[name] = found.get(name, 0) + sign * int(power or 1)
  return found


def _table() -> tuple[dict[str, str], dict[str, str]]:
  """Spellings whose case counts, and those in small letters, to units."""
  small = {}
  for line in _WORDS.split('\n'):
    names = line.split()
    small |= dict.fromkeys(names, names[0] if names else '')
  cased = dict(_SYMBOLS)
  for base, (symbols, prefixes) in _PREFIXED.items():
    full = [s for s, name in small.items() if name == base and len(s) > 3]
    for prefix in prefixes.split():
      small |= {prefix + s: prefix + base for s in full}
      cased |= {_PREFIXES[prefix] + s: prefix + base for s in symbols.split()}
  for spellings, spelled in _COMPOUNDS.items():
    small |= dict.fromkeys(spellings.split(), spelled)
    cased |= dict.fromkeys(spellings.split(), spelled)
  # KHZ is kHz, but mW and MW differ, so mw is neither.
  folded = {}
  for symbol, name in cased.items():
    folded.setdefault(symbol.lower(), set()).add(name)
  short = words('hz pa kw kj kv ev db')
  sure = {
    symbol: names.pop()
    for symbol, names in folded.items()
    if len(names) == 1
    and (len(symbol) > 2 or symbol in short or symbol in cased)
  }
  return cased, sure | small


CASED, SMALL = _table()
# Units that may be written without \text; other letters could be variables.
BARE = (
  {s for s in SMALL if len(s) > 3 and s.isalpha()}
  | {s for s in BEFORE if len(s) == 3}
  | words('pct lbs ton day hrs yrs mph rad cm mm km kg ml square cubic sq')
)
# These are units too, right after a number and a space: 12 in, 5 rev.
SPACED = {s for s in SMALL if len(s) == 3 and s.isalpha()} | words(
  'in ft mi lb oz hr yd yr ha hz kw kj mg hp am pm'
)
# Functions, unless no possible argument follows.
FUNCTIONS = ('min', 'sec')
