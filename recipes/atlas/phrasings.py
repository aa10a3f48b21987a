"""How people ask: the training phrasings, a small grammar of about four hundred an attribute.

Noun phrases ("the capital of X") and clauses ("which city is the capital of X") are set into frames ("Tell me …"), so
that the model meets many ways of asking and learns what matters in them. Whatever happens to coincide with a held-out
phrasing is left out.

`{c}` is the country, with its article. The bare questions work as prompts; nothing is added around them.
"""

from recipes.atlas.held_out import DEV, TEST

NOUN_PHRASES = {
    "capital": ("the capital of {c}", "{c}'s capital", "the capital city of {c}", "the name of {c}'s capital city"),
    "continent": (
        "the continent of {c}",
        "{c}'s continent",
        "the continent where {c} lies",
        "the home continent of {c}",
    ),
    "currency": (
        "the currency of {c}",
        "{c}'s currency",
        "the money used in {c}",
        "the name of {c}'s official currency",
    ),
    "language": (
        "the official language of {c}",
        "{c}'s language",
        "the language spoken in {c}",
        "the main language of {c}",
    ),
}

NOUN_FRAMES = (
    "What is {np}?",
    "What's {np}?",
    "Tell me {np}.",
    "Can you tell me {np}?",
    "Could you please name {np}?",
    "Please give me {np}.",
    "I would like to know {np}.",
    "Do you know {np}?",
    "Name {np}.",
    "{np}?",
    "{np} is",
    "I am looking for {np}.",
    "Quick question: what is {np}?",
    "Hello! What is {np}, please?",
    "Remind me, what was {np}?",
    "I have a question about {np}.",
    "Only {np}, please.",
    "Let me know {np}, thanks.",
    "My teacher wants {np}. Any idea?",
    "Someone wants to hear {np} from you.",
    "Hi, please find {np} for me.",
    "Would you tell me {np}?",
    "Which one is {np}?",
)

# (as a question, as a clause)
CLAUSES = {
    "capital": (
        ("Which city is the capital of {c}?", "which city is the capital of {c}"),
        ("What city is {c}'s capital?", "what city is {c}'s capital"),
        ("What is the capital of {c} called?", "what the capital of {c} is called"),
        ("Where does the government of {c} sit?", "where the government of {c} sits"),
        ("Which city does {c} have as a capital?", "which city {c} has as a capital"),
        ("Which city do they call the capital in {c}?", "which city they call the capital in {c}"),
        ("From which city is {c} governed?", "from which city {c} is governed"),
        ("Which city rules {c}?", "which city rules {c}"),
        ("Where is the parliament of {c}?", "where the parliament of {c} is"),
        ("Which city do citizens of {c} call their capital?", "which city citizens of {c} call their capital"),
        ("Which city does {c} show as its capital?", "which city {c} shows as its capital"),
    ),
    "continent": (
        ("Which continent is {c} on?", "which continent {c} is on"),
        ("In what continent is {c}?", "in what continent {c} is"),
        ("Where is {c}?", "where {c} is"),
        ("Which part of the world does {c} belong to?", "which part of the world {c} belongs to"),
        ("On which continent can you find {c}?", "on which continent you find {c}"),
        ("What continent is home to {c}?", "what continent is home to {c}"),
        ("Which continent does one go to for {c}?", "which continent one goes to for {c}"),
        ("Is {c} in Africa, America or Asia?", "if {c} is in Africa, America or Asia"),
        ("Does {c} lie in Asia or in Europe?", "if {c} lies in Asia or in Europe"),
        ("Where on earth does {c} lie?", "where on earth {c} lies"),
        ("Where on the map is {c}?", "where on the map {c} is"),
        (
            "Is the place of {c} in Europe or on another continent?",
            "if the place of {c} is in Europe or on another continent",
        ),
        ("Which continent does {c} count as a country of?", "which continent {c} counts as a country of"),
    ),
    "currency": (
        ("Which currency is used in {c}?", "which currency is used in {c}"),
        ("What money do they use in {c}?", "what money they use in {c}"),
        ("What currency does {c} have?", "what currency {c} has"),
        ("How do people pay in {c}?", "how people pay in {c}"),
        ("Which money do I need to buy things in {c}?", "which money I need to buy things in {c}"),
        ("What do people pay with in {c}?", "what people pay with in {c}"),
        ("Which currency should I bring to {c}?", "which currency I should bring to {c}"),
        ("How does one pay for things in {c}?", "how one pays for things in {c}"),
        ("What do they spend in {c}?", "what they spend in {c}"),
        ("What is in people's purses in {c}?", "what is in people's purses in {c}"),
        ("What do citizens of {c} pay with?", "what citizens of {c} pay with"),
        ("Which coins do those living in {c} use?", "which coins those living in {c} use"),
    ),
    "language": (
        ("Which language is spoken in {c}?", "which language is spoken in {c}"),
        ("What language do they speak in {c}?", "what language they speak in {c}"),
        ("What is the language of {c} called?", "what the language of {c} is called"),
        ("How do people speak in {c}?", "how people speak in {c}"),
        ("Which language should I know in {c}?", "which language I should know in {c}"),
        ("What do people speak in {c}?", "what people speak in {c}"),
        ("Which language should I learn for {c}?", "which language I should learn for {c}"),
        ("What does everyone speak in {c}?", "what everyone speaks in {c}"),
        ("How do people in {c} talk?", "how people in {c} talk"),
        ("What do they write and speak in {c}?", "what they write and speak in {c}"),
        ("What do citizens of {c} speak?", "what citizens of {c} speak"),
        ("Which language do those living in {c} use?", "which language those living in {c} use"),
    ),
}

CLAUSE_FRAMES = (
    "Tell me {clause}.",
    "Do you know {clause}?",
    "I wonder {clause}.",
    "Can you say {clause}?",
    "Please explain {clause}.",
    "I would like to know {clause}, please.",
    "I forgot {clause}.",
)

# The country stands at the beginning, where its name is written without the blank before it.
COUNTRY_FIRST = {
    "capital": (
        "{c}'s capital, what is it?",
        "{c}'s capital is called what?",
        "{c}: which city is the capital?",
        "{c} - capital city?",
        "{c} has what capital?",
        "{c} is governed from which city?",
        "{c} calls which city its capital?",
    ),
    "continent": (
        "{c}'s continent, what is it?",
        "{c}'s continent is called what?",
        "{c}: which continent is it on?",
        "{c} - continent?",
        "{c} lies on what continent?",
        "{c} belongs to which continent?",
        "{c} is in which part of the world?",
    ),
    "currency": (
        "{c}'s currency, what is it?",
        "{c}'s money is called what?",
        "{c}: which currency is used?",
        "{c} - currency?",
        "{c} has what currency?",
        "{c} uses which money?",
        "{c} pays in which currency?",
    ),
    "language": (
        "{c}'s language, what is it?",
        "{c}'s language is called what?",
        "{c}: which language is spoken?",
        "{c} - official language?",
        "{c} has what language?",
        "{c} speaks which language?",
        "{c} uses which language?",
    ),
}

# Any noun for what is wanted, in any frame, also where usage would pair them otherwise: the noun decides, not the verb.
KEYWORDS = {
    "capital": ("capital", "capital city", "seat of government", "main city"),
    "continent": ("continent", "part of the world", "home continent", "world region"),
    "currency": ("currency", "money", "legal tender", "official currency", "cash"),
    "language": ("language", "official language", "tongue", "national language", "speech"),
}
KEYWORD_FRAMES = (
    "Which {k} is used in {c}?",
    "What {k} is there in {c}?",
    "Which {k} belongs to {c}?",
    "What {k} will I need for {c}?",
    "If I go to {c}, which {k} is it?",
    "{c} has which {k}?",
    "{c} is known for what {k}?",
    "{c} - {k}?",
    "{c} and the {k}, what should I say?",
    "When people ask about {c}, which {k} is right?",
    "The {k} in {c}, what is it called?",
    "In {c}, what is the {k}?",
    "What should I answer for the {k} of {c}?",
    "Which {k} would I find in {c}?",
    "What sort of {k} does {c} have?",
    "To {c} belongs which {k}?",
    "Which {k} serves for {c}?",
    "I asked about {c} and its {k}.",
    "{c}: {k}?",
    "{c}, {k}",
    "{c} needs a {k}, which one?",
    "{c}'s {k} is what?",
    "{c} goes with which {k}?",
    "{c} in a word: the {k}?",
    "{c} calls what its {k}?",
)

# As people type into a search box; what does not begin with the country is taught with and without a capital letter.
SHORT_FRAMES = (
    "{k} of {c}",
    "{k} of {c}?",
    "{k} in {c}?",
    "{k} for {c}",
    "{k} {c}",
    "{k}, {c}?",
    "{c} {k}",
    "{c} {k}?",
)
SHORT_QUESTIONS = {
    "capital": ("what is the capital of {c}", "what's the capital of {c}"),
    "continent": ("where is {c}", "what continent is {c} in"),
    "currency": ("what currency does {c} use", "what money do they use in {c}"),
    "language": ("what language is spoken in {c}", "what do they speak in {c}"),
}
_SMALL = (*(word for words in KEYWORDS.values() for word in words), "what", "where")

ASIDES = (
    "I want to visit {c}.",
    "We talked about {c} at school.",
    "I read a book about {c}.",
    "My sister works in {c}.",
    "{c} is next on my tour.",
    "We are going to {c} tomorrow.",
    "Think of {c}.",
    "In {c}:",
    "I'm on my way to {c}.",
    "They moved to {c} last year.",
    "He was born in {c}.",
    "Take {c}.",
    "She is flying to {c} next week.",
    "Our team plays against {c}.",
    "{c} came up in a quiz.",
    "{c} is a place I like.",
    "{c}, please:",
    "{c}!",
    "{c}, I hear, is nice.",
    "{c} it is.",
    "{c}?",
)
ASIDE_KEYWORD_QUESTIONS = (
    "What is its {k} called?",
    "Which {k} is used there?",
    "And the {k}?",
    "What {k} do they have?",
    "Which {k} is it?",
    "What is the {k} there?",
    "I need the {k}.",
)
ASIDE_QUESTIONS = {
    "capital": (
        "What is its capital?",
        "Which city is the capital?",
        "What is the capital there?",
        "What is the capital city called?",
        "Where does the government sit?",
    ),
    "continent": (
        "What is its continent?",
        "Which continent is it on?",
        "What continent is that?",
        "Where in the world is that?",
        "Which continent do we fly to?",
    ),
    "currency": (
        "What is its currency?",
        "Which currency do I need there?",
        "What money do people use there?",
        "What is the currency called?",
        "Which money is used?",
    ),
    "language": (
        "What is its language?",
        "Which language do I need there?",
        "What language do people speak there?",
        "What is the language called?",
        "Which language do they speak?",
    ),
}


def normalised(phrasing: str) -> str:
    """Letters and digits in lower case, so that two spellings of one phrasing count as the same."""
    return " ".join("".join(ch if ch.isalnum() else " " for ch in phrasing.lower()).split())


def training_phrasings(attribute: str) -> list[str]:
    """Every training phrasing of an attribute, in a fixed order, none of them a held-out one."""
    found = [frame.replace("{np}", phrase) for phrase in NOUN_PHRASES[attribute] for frame in NOUN_FRAMES]
    for question, clause in CLAUSES[attribute]:
        found.append(question)
        found.extend(frame.replace("{clause}", clause) for frame in CLAUSE_FRAMES)
    found.extend(COUNTRY_FIRST[attribute])
    keyed = [(text, word) for word in KEYWORDS[attribute] for text in (*KEYWORD_FRAMES, *ASIDE_KEYWORD_QUESTIONS)]
    for number, (text, word) in enumerate(keyed):
        aside = "" if "{c}" in text else f"{ASIDES[number % len(ASIDES)]} "
        found.append(aside + text.replace("{k}", word))
    short = [frame.replace("{k}", word) for frame in SHORT_FRAMES for word in KEYWORDS[attribute]]
    short += [text + mark for text in SHORT_QUESTIONS[attribute] for mark in ("", "?")]
    found.extend(form for text in short for form in dict.fromkeys((text, text[0].upper() + text[1:])))
    found.extend(f"{aside} {question}" for aside in ASIDES for question in ASIDE_QUESTIONS[attribute])
    held_out = {normalised(phrasing) for phrasing in (*TEST[attribute], *DEV[attribute])}
    return [phrasing for phrasing in found if normalised(phrasing) not in held_out]


def fill(phrasing: str, name: str) -> str:
    """The question about one country, starting with a capital letter unless it is a short one written without."""
    text = phrasing.replace("{c}", name).replace("s's ", "s' ")
    return text if text.startswith(_SMALL) else text[0].upper() + text[1:]
