/* lexicon.c - words for words: what a question may be asked with, without asking for something else.
 *
 * Spellings, short forms and fixed phrases of one sense always stand for each other. Words of like sense do only where
 * the caller wants it wide: "delete" and "remove" are one for files, but "alter" and "change" are two for dresses, and no
 * list knows which. Of words that trades tell apart ("kill" and "stop", "join" and "merge") none is the other even then,
 * nor is an opposite. Used for questions only; facts keep their words.
 */
#include "src/wording/wording.h"

typedef struct aii_words_same {
  const char *first;  /* what stands for all of them */
  const char *others; /* between single spaces */
} aii_words_same;

/* Behind "how to", "to", "I", "can" and the like. */
static const aii_words_same DOINGS[] = {
    {"remove", " delete erase eliminate "},
    {"fix", " repair mend "},
    {"create", " make generate "},
    {"find", " locate "},
    {"show", " display "},
    {"view", " see "},
    {"quit", " exit "},
    {"start", " begin launch commence "},
    {"buy", " purchase "},
    {"use", " utilize utilise "},
    {"change", " modify alter "},
    {"increase", " boost "},
    {"decrease", " reduce lessen "},
    {"enable", " activate "},
    {"disable", " deactivate "},
    {"merge", " combine "},
    {"get", " obtain retrieve "},
    {"iterate", " loop "},
    {"convert", " transform "},
    {"choose", " pick "},
    {"help", " assist "},
    {"explain", " describe "},
    {"recommend", " suggest advise "},
    {"happen", " occur "},
    {"limit", " restrict "},
    {"build", " construct "},
    {"need", " require "},
    {"setup", " set-up configure "},
    {"summarize", " summarise "},
    {"deliver", " ship "},
};

/* Things and what they are like, where no other word follows: "big data", "hard disk" and "film camera" are names. */
static const aii_words_same THINGS[] = {
    {"required", " needed necessary mandatory obligatory "},
    {"allowed", " permitted "},
    {"mother", " mom mum mommy mummy mama "},
    {"father", " dad daddy papa "},
    {"child", " kid "},
    {"children", " kids "},
    {"doctor", " physician "},
    {"lawyer", " attorney "},
    {"movie", " film "},
    {"movies", " films "},
    {"car", " automobile "},
    {"cars", " automobiles "},
    {"vacation", " holiday "},
    {"vacations", " holidays "},
    {"sofa", " couch "},
    {"trash", " garbage rubbish "},
    {"fridge", " refrigerator "},
    {"phone", " telephone cellphone smartphone "},
    {"plane", " airplane aeroplane "},
    {"planes", " airplanes aeroplanes "},
    {"gasoline", " petrol "},
    {"picture", " photo photograph "},
    {"pictures", " photos photographs "},
    {"bike", " bicycle "},
    {"illness", " sickness "},
    {"price", " cost "},
    {"prices", " costs "},
    {"amount", " quantity "},
    {"delivery", " shipping shipment "},
    {"store", " shop "},
    {"package", " parcel "},
    {"consequence", " outcome "},
    {"consequences", " outcomes "},
    {"large", " big "},
    {"fast", " quick rapid quickly rapidly "},
    {"cheap", " inexpensive "},
    {"expensive", " costly pricey "},
    {"easy", " simple "},
    {"easily", " simply "},
    {"hard", " difficult "},
    {"smart", " intelligent clever "},
    {"sick", " ill "},
    {"person", " individual "},
};

/* Spellings, short forms, and words of one sense. */
static const aii_words_same SPELLINGS[] = {
    {"directory", " folder dir "},
    {"directories", " folders dirs "},
    {"repository", " repo "},
    {"repositories", " repos "},
    {"dictionary", " dict "},
    {"dictionaries", " dicts "},
    {"integer", " int "},
    {"integers", " ints "},
    {"variable", " var "},
    {"parameter", " param "},
    {"parameters", " params "},
    {"argument", " arg "},
    {"arguments", " args "},
    {"configuration", " config "},
    {"environment", " env "},
    {"database", " db "},
    {"regex", " regexp "},
    {"javascript", " js "},
    {"typescript", " ts "},
    {"postgresql", " postgres "},
    {"kubernetes", " k8s "},
    {"segfault", " segfaults "},
    {"documentation", " docs "},
    {"information", " info "},
    {"authentication", " auth "},
    {"administrator", " admin "},
    {"synchronize", " sync synchronise "},
    {"specification", " spec "},
    {"maximum", " max "},
    {"minimum", " min "},
    {"happens", " occurs "},
    {"built", " constructed "},
    {"faster", " quicker "},
    {"fastest", " quickest "},
    {"easiest", " simplest "},
    {"usually", " typically normally generally "},
    {"approximately", " roughly "},
    {"often", " frequently "},
    {"if", " whether "},
    {"many", " numerous "},
    {"13", " thirteen "},
    {"14", " fourteen "},
    {"15", " fifteen "},
    {"16", " sixteen "},
    {"20", " twenty "},
    {"30", " thirty "},
    {"40", " forty "},
    {"50", " fifty "},
    {"tire", " tyre "},
    {"tires", " tyres "},
    {"theater", " theatre "},
    {"defense", " defence "},
    {"analyze", " analyse "},
    {"aluminum", " aluminium "},
    {"jewelry", " jewellery "},
    {"fiber", " fibre "},
    {"traveling", " travelling "},
    {"canceled", " cancelled "},
    {"canceling", " cancelling "},
    {"pajamas", " pyjamas "},
    {"recognize", " recognise "},
    {"customize", " customise "},
    {"optimize", " optimise "},
    {"colors", " colours "},
    {"flavor", " flavour "},
    {"neighbors", " neighbours "},
};

#define FIND(table, word)                                           \
  for (size_t i = 0; i < AII_COUNT(table); i++) {                   \
    if (aii_in((table)[i].others, (word))) return (table)[i].first; \
  }

const char *aii_lexicon_word(const char *word, bool doing, bool things)
{
  if (doing) FIND(DOINGS, word)
  if (things) FIND(THINGS, word)
  FIND(SPELLINGS, word)
  return NULL;
}

static const char *const PHRASES[][2] = {
    {"get in touch with", "contact"},
    {"take place", "happen"},
    {"takes place", "happens"},
    {"set up", "setup"},
    {"setting up", "setup"},
    {"sign in", "login"},
    {"log in", "login"},
    {"log on", "login"},
    {"sign out", "logout"},
    {"log out", "logout"},
    {"log off", "logout"},
    {"sign up", "register"},
    {"iterate over", "iterate"},
    {"iterate through", "iterate"},
    {"keep from", "prevent"},
    {"cell phone", "phone"},
    {"mobile phone", "phone"},
    {"customer service", "customer support"},
    {"business hours", "opening hours"},
    {"store hours", "opening hours"},
    {"hours of operation", "opening hours"},
    {"postal code", "zip code"},
    {"regular expression", "regex"},
    {"regular expressions", "regexes"},
    {"operating system", "os"},
    {"command line", "cli"},
    {"segmentation fault", "segfault"},
    {"each day", "daily"},
    {"every day", "daily"},
    {"per day", "daily"},
    {"each week", "weekly"},
    {"every week", "weekly"},
    {"per week", "weekly"},
    {"every month", "monthly"},
    {"per month", "monthly"},
    {"every year", "yearly"},
    {"per year", "yearly"},
    {"per hour", "hourly"},
    {"every hour", "hourly"},
    {"most recent", "latest"},
    {"a number of", "several"},
    {"in order to", "to"},
    {"so as to", "to"},
    {"by means of", "with"},
    {"with the help of", "with"},
    {"because of", "due to"},
    {"capital city", "capital"},
    {"in simple terms", "simply"},
    {"in simple words", "simply"},
    {"in plain english", "simply"},
    {"how much time", "how long"},
    {"what type of", "what kind of"},
    {"what sort of", "what kind of"},
    {"what types of", "what kind of"},
    {"what kinds of", "what kind of"},
    {"what amount of", "how much"},
    {"what number of", "how many"},
    {"in what year", "when"},
    {"what year", "when"},
    {"how come", "why"},
    {"for what reason", "why"},
    {"in what place", "where"},
    {"switch on", "turn on"},
    {"switch off", "turn off"},
};

/* Where words stand for words. */
static const char *const WIDE_PHRASES[][2] = {
    {"get rid of", "remove"}, {"getting rid of", "removing"}, {"look up", "find"},        {"search for", "find"},
    {"find out", "check"},    {"more quickly", "faster"},     {"more rapidly", "faster"}, {"more easily", "easier"},
    {"turn on", "enable"},    {"switch on", "enable"},        {"turn off", "disable"},    {"switch off", "disable"},
    {"out of", "from"},
};

const char *aii_lexicon_phrase(const aii_toks *t, size_t at, bool wide, size_t *n)
{
  for (size_t i = 0; wide && i < AII_COUNT(WIDE_PHRASES); i++) {
    *n = aii_toks_match(t, at, WIDE_PHRASES[i][0]);
    if (*n > 0) return WIDE_PHRASES[i][1];
  }
  for (size_t i = 0; i < AII_COUNT(PHRASES); i++) {
    *n = aii_toks_match(t, at, PHRASES[i][0]);
    if (*n > 0) return PHRASES[i][1];
  }
  return NULL;
}

/* Languages, programs and systems that a task is done in, with or on. */
static const char TECH[] =
    " python java javascript typescript c c++ c# @C @R @Go @Rust @Swift @Dart @Windows @Shell @Word @Spring @React "
    "@Spark @Flask @Node @Excel @Jest @Make @Spring golang go rust ruby "
    "php perl kotlin scala swift haskell lua julia r matlab bash zsh powershell sql mysql postgresql sqlite mongodb "
    "redis git github gitlab docker kubernetes kubectl terraform ansible linux ubuntu debian fedora windows macos "
    "android "
    "ios unix vim emacs vscode html css react vue angular svelte node node.js npm yarn pip cargo maven gradle django "
    "flask fastapi rails numpy pandas pytorch tensorflow excel pytest junit curl aws azure gcp nginx apache "
    "jenkins elasticsearch kafka cli cmake gdb latex markdown jupyter ";

bool aii_lexicon_is_tech(const char *word)
{
  return aii_in(TECH, word);
}

/* Who did it, and what was done. */
static const char *const DOERS[][2] = {
    {"author", "wrote"},       {"writer", "wrote"},      {"inventor", "invented"},   {"painter", "painted"},
    {"founder", "founded"},    {"director", "directed"}, {"composer", "composed"},   {"discoverer", "discovered"},
    {"creator", "created"},    {"designer", "designed"}, {"developer", "developed"}, {"owner", "owns"},
    {"leader", "leads"},       {"winner", "won"},        {"architect", "designed"},  {"publisher", "published"},
    {"manufacturer", "makes"},
};

const char *aii_lexicon_doing(const char *doer)
{
  for (size_t i = 0; i < AII_COUNT(DOERS); i++) {
    if (strcmp(doer, DOERS[i][0]) == 0) return DOERS[i][1];
  }
  return NULL;
}

static const char *const MEASURES[][2] = {
    {"tall", "height"}, {"deep", "depth"}, {"wide", "width"}, {"heavy", "weight"},
    {"old", "age"},     {"large", "size"}, {"fast", "speed"},
};

const char *aii_lexicon_measure(const char *adjective)
{
  for (size_t i = 0; i < AII_COUNT(MEASURES); i++) {
    if (strcmp(adjective, MEASURES[i][0]) == 0) return MEASURES[i][1];
  }
  return NULL;
}
