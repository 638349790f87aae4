"""The inventories of nano: what the generator's conversations are made of.

Half of what the model reads must be words it never saw, or it would learn answers instead of
copying. So every list is cut in two by a checksum of the word: training draws from the one part,
held-out sets from the other; and pseudo-words, drawn from syllables without end, are cut the same way.
"""
import zlib


def held_out(word):
    return zlib.crc32(word.lower().encode()) % 6 == 0


TECH = """server client queue cache block buffer token model batch scheduler worker thread kernel tensor layer index
vector table journal runtime agent tool loop handle request response session header socket port file folder page
record column row key value schema query cursor transaction snapshot replica shard node cluster device driver plugin
backend frontend gateway router proxy listener parser lexer grammar template tokenizer sampler decoder encoder
embedding weight gradient optimizer checkpoint dataset pipeline stage task job plan step timer clock counter gauge
metric trace span log event signal callback hook allocator arena pool slab region segment mapping pointer reference
lock mutex barrier semaphore channel stream pipe packet frame message envelope certificate secret password policy rule
filter mask bitmap tree graph edge heap stack list map set ring bus registry catalog manifest archive bundle image
container volume mount partition disk sector controller sensor motor valve pump engine turbine battery antenna relay
prompt passage document chunk sentence answer context window prefix suffix slot lease quota budget tenant dispatcher
collector reporter watcher monitor inspector validator formatter compiler linker loader debugger profiler simulator
emulator sandbox jail firewall bridge switch adapter wrapper converter resolver planner executor launcher supervisor
broker ledger vault store mirror crawler indexer ranker scorer reranker configuration dependency library package
module function method struct field enum macro interface protocol format codec checksum hash digest signature nonce
cipher salt version release patch branch commit accumulator actor agenda alarm alias anchor applet argument assembler
attribute auditor backlog balancer bandwidth barcode beacon benchmark binding biometrics bitrate blob bootloader
breakpoint browser builder burst bytecode calendar camera cartridge cascade chart checkbox chipset circuit classifier
clipboard closure codebook collection collision comment compactor component composer compressor console constant
constructor consumer coprocessor counterpart crawl credential cron dashboard datagram deadline decorator delegate
delimiter demon descriptor desktop destructor detector dialog diff digitizer directive directory display domain
download editor element endpoint entity enumerator epoch estimator evaluator exception exporter extension extractor
fallback feed fetcher fiber fixture flag fleet flow footer fork formula fragment framework garbage generator gesture
glyph governor grant grid guard harness heartbeat hint histogram host hypervisor icon identifier importer increment
inode input installer instance integer interpreter interrupt invoice item iterator joystick keyboard keyring label
lambda latch license limiter literal locale locator logger lookup marker matcher matrix menu merger migration mixer
modem monad mouse multiplexer namespace negotiator notebook notifier object observer octet opcode operand operator
orchestrator output overlay padding palette parameter patcher payload peer permission phrase picker pixel placeholder
platform plotter poller popup portal predicate preset primitive printer probe processor producer profile projector
promise prototype provider publisher quantizer quorum radio radix reader receiver recorder recovery reducer redirect
refresher register regulator relation renderer repeater replicator report repository retriever robot rollback rotor
roundtrip runner sample scanner scene schedule scope screen script scrollbar selector sequence serializer shader shape
shell shortcut sidebar sink sketch slider snippet source spooler sprite statement stencil storage string subnet
subscriber summary switchboard symbol synchronizer syntax tablet tag target telemetry terminal texture theme
thermostat throttle ticket tile toolbar topic tracker transformer translator transport trigger tuner tuple tunnel
turnstile upload uplink variable viewport visitor voltage warmup watchdog webhook wheel widget wildcard wizard
workflow workspace""".split()
PLAIN = """lamp bottle garden bridge tower castle museum library river mountain island valley harbour station market
bakery kitchen window door table chair mirror carpet basket bucket ladder hammer needle ribbon candle clock violin
piano drum flute trumpet guitar camera telescope compass lantern umbrella suitcase wallet bicycle tractor wagon boat
ferry train tram plane balloon rocket satellite anchor sail engine boiler chimney roof cellar attic fence gate well
fountain statue painting poem novel letter parcel stamp coin medal crown orchard meadow forest desert glacier volcano
canyon lagoon reef beach cliff cave tunnel mine quarry mill farm stable barn school hospital theatre stadium temple
chapel prison court palace hotel tavern shop factory workshop laboratory observatory archive festival parade contest
race match concert lecture journey expedition voyage treaty law tax loan contract recipe soup cake bread cheese honey
salt pepper spice acorn alley almond anvil apron arcade arrow attorney avenue awning badger bagpipe balcony bamboo
banner barrel barrow basin beacon beaver bench blanket blossom bonfire bracelet brewery brick broom brush bubble
buckle bunker butter button cabin cactus cannon canoe canvas caravan carriage cathedral chariot chisel cinema clinic
clover cobweb collar column comet cottage cradle crane crater cricket cupboard curtain dagger daisy desk diamond ditch
donkey dormitory dragon drawer dungeon eagle easel elevator emerald engraving fabric feather fiddle finger flag flask
fleet flour foundry fox freezer furnace gallery garage garlic geyser glove goblet granary grape gravel hammock handle
harvest hatch hedge helmet hinge honeycomb hook horn hostel hut icicle inkwell iron ivory jacket jar jewel kettle
kiosk kite knot lace lake lawn leaf lemon lever lighthouse lily lobby locket loom magnet mango mansion marble mast
mattress maze melon merchant meteor mitten monastery monument moss mug napkin nest oasis ointment olive onion oven
oyster paddle palette parachute parrot passport pasture peach pearl pebble pedal pelican pencil pendulum perfume pier
pigeon pillow pipeline plaza plough pocket pond porch portrait postcard pottery prism pumpkin puppet pyramid raft
railway rainbow ranch razor ridge rope rug saddle sapling sauce sausage saw scarf sceptre scissors scroll sculpture
seed shawl shield shovel shrine sketch sleigh slipper sofa spade sparrow spindle sponge spoon spring squirrel stairway
stove straw stream studio submarine sugar sundial swan sword tambourine tapestry teapot thermometer thimble thorn
throne thunder timber toast torch towel toy trail tray trench trophy trunk tulip turnip turtle typewriter vase veil
velvet vessel viaduct village vineyard violet waffle walnut wardrobe warehouse waterfall wheat wheel whistle windmill
wreath yacht zipper""".split()
ADJ = """default full empty fast slow large small main second third local remote shared private public hidden active
idle stale fresh dirty clean open closed new old first last next previous inner outer upper lower primary secondary
internal external static dynamic global nested virtual physical logical temporary permanent lazy eager strict loose
safe broken missing invalid valid unknown red blue green yellow black white grey brown golden silver wooden iron
copper stone glass paper northern southern eastern western central ancient modern famous quiet noisy heavy light
narrow wide deep shallow early late daily weekly annual royal wild busy ready pending sparse dense compressed
encrypted signed cached pinned frozen quantised tiny huge able absent abstract adaptive amber angry atomic automatic
average azure bare basic blank blind blunt bold brave brief bright broad calm careful cautious cheap circular civil
clever cold common compact complex concrete constant cool correct crisp crooked crude curious curly damp dark dead
delicate different digital dim direct dizzy double dry dull dusty elastic electric elegant endless exact exotic extra
faint fair faithful fancy fatal feeble final firm fixed flat flexible fluent foggy foreign formal fragile frequent
friendly fuzzy generic gentle genuine giant glad gloomy graceful grand gradual handy happy hard harsh hollow honest
humble implicit inert initial innocent joint jolly junior keen known lean legal level linear liquid little lively
lonely long loud loyal lucky lunar magic major manual marine massive mature mellow metallic mild minor mobile mute
mutual naive native neat neutral nimble noble normal obscure odd official opaque optical optional oral orange ordinary
pale parallel passive patient perfect plain plastic playful polar polite portable precise pretty prime proper proud
pure quick radical random rapid rare raw rear recent regular reliable rich rigid ripe robust rough round rural rusty
sacred salty senior separate serial shady sharp shiny short shy silent simple single sleepy slim smart smooth sober
soft solar solid sour spare special spicy stable steep sticky stiff straight strange strong sturdy subtle sudden sunny
sweet swift tall tame tender thick thin tidy tight timid tired total tough tropical typical unique universal upright
urban urgent useful vague valuable vast verbal vertical visual vital vivid warm weak weird wet witty yearly young""".split()
VERB = """keep hold read write load store send receive create delete open close start stop check validate parse
render encode decode compress encrypt sign copy move merge split sort filter count measure limit reject accept
return release reserve allocate free lock unlock flush commit cancel retry schedule dispatch execute evict
share reuse replace update extend reduce convert resolve register export import publish deliver collect
record report print build test install configure protect repair paint carry pull push drive guard feed
clean cut open visit buy sell own use need call wake block monitor index search scan rank score map""".split()
HEAD = """size limit count port length width height depth weight price age speed timeout interval capacity level
budget version name owner address colour format mode path rate threshold window offset priority quota delay
temperature voltage pressure duration distance area range precision resolution frequency ratio cost licence""".split()
NAME = """Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karla Leo Mara Nils Olga Paul Rita Simon Tara Uwe
Vera Walter Yara Zoe Adam Bella Carlos Diana Erik Fatima George Hana Ivan Julia Kofi Lena Marco Nadia Omar
Petra Quinn Rosa Samir Tina Ursula Victor Wanda Xavier Yusuf Zara Alice Bob Carol Dan Eve Frank Grace Henry
Iris Jack Kate Liam Mia Noah Oscar Pia Ravi Sofia Tom Uma Vlad Will Ying Aisha Boris Chen Dora Elias Fiona
Gustav Helen Igor Jana Kenji Laura Milan Nora Otto Pablo Rina Sven Theo Ulla Maya Amir Bruno Celia Dmitri""".split()
SURNAME = """Abel Becker Costa Duarte Evans Fischer Garcia Huber Ito Jensen Keller Larsen Moreau Novak Okafor
Peters Quist Rossi Sato Tanaka Ueda Varga Weber Xu Young Ziegler Brandt Cohen Dubois Eriksen Ferrari Gruber
Holm Ivanov Jones Kovacs Lopez Meyer Nguyen Olsen Patel Reyes Silva Torres Urban Vogel Wagner Yilmaz""".split()
PLACE = """Berlin Paris London Madrid Rome Vienna Oslo Lisbon Prague Warsaw Dublin Athens Helsinki Cairo Lagos
Nairobi Tokyo Kyoto Seoul Delhi Mumbai Sydney Perth Toronto Boston Chicago Denver Austin Lima Quito Bogota
Havana Geneva Zurich Munich Hamburg Lyon Nice Porto Seville Milan Turin Naples Krakow Riga Tallinn Vilnius
Bergen Malmo Ghent Bruges Cork Leeds York Bath Osaka Hanoi Manila Jakarta Accra Dakar Tunis Rabat""".split()
JOB = """teacher baker doctor nurse pilot painter writer lawyer farmer fisher plumber welder tailor singer dancer
driver judge chemist surgeon gardener carpenter engineer librarian translator photographer cook butcher
programmer designer architect dentist waiter clerk sailor miner potter weaver jeweller banker broker""".split()
PET = """cat dog horse rabbit parrot hamster turtle goat pony donkey snake goldfish canary ferret lizard hen
duck goose sheep cow pig llama owl falcon frog mouse""".split()
KIN = """brother sister mother father uncle aunt cousin son daughter wife husband neighbour boss teacher doctor
friend colleague grandmother grandfather nephew niece landlord dentist coach partner roommate""".split()
THING = """car bike boat phone laptop guitar house flat garden office project team company school shop blog band
bag hat coat watch desk camera piano tent camper robot printer server notebook suitcase""".split()
LIKE = """coffee tea chess football tennis jazz opera cheese chocolate rice noodles soup apples plums cherries
hiking sailing skiing climbing swimming reading gardening knitting painting poetry history physics maths
pizza pasta curry salad bread honey olives mushrooms pancakes running cycling dancing singing juggling""".split()
FAVOURITE = """colour food drink book film song game sport animal city number season flower tree band painter
writer language editor dish fruit dessert tool planet word""".split()
COLOUR = "red blue green yellow black white grey brown orange purple pink golden silver violet beige".split()
UNIT = """bytes KiB MiB GiB ms seconds minutes hours days tokens blocks requests threads rows entries files workers
layers slots pages records retries percent metres kilometres kilograms litres volts watts degrees euros dollars
people seats rooms floors steps points""".split()
MONTH = "January February March April May June July August September October November December".split()
DAY = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
LANGUAGE = "French German Spanish Italian Polish Czech Greek Turkish Arabic Hindi Korean Swedish Dutch Finnish".split()
MEAL = "breakfast lunch dinner tea brunch".split()
