"""What stands around a question and means nothing for its answer: openings, closings and stray words.

A model of a million weights that has only met tidy questions is thrown off by the first unknown word. Strewing common
words into half of the training questions teaches it that the country and the attribute decide: when this was added,
right answers about fine-tuned countries on development phrasings went from 0.96 to 0.99.
"""

from collections.abc import Sequence

OPENINGS = (
    "Hey,",
    "Good morning!",
    "Hello there,",
    "Excuse me,",
    "Sorry to bother you,",
    "Dear assistant,",
    "OK,",
    "So,",
    "Well,",
    "Now,",
    "One more thing:",
    "Next question:",
    "This is for a crossword.",
    "This is for my homework:",
    "We are playing a game.",
    "My son asks:",
    "My grandmother used to know this.",
    "I am writing an essay.",
    "A colleague and I disagree.",
    "I should know this by heart.",
    "Please help me out:",
    "Let us see.",
    "Be quick:",
    "Maybe you can help.",
    "I looked everywhere.",
    "There was a show on television last night.",
    "My flight leaves soon.",
    "Before I forget:",
    "You are good at geography.",
    "It is on the tip of my tongue.",
    "They want me to fill in a form.",
    "Our guests arrive on Monday.",
    "He would not tell me.",
    "She was born far away.",
    "In short,",
    "By the way,",
    "Listen,",
    "Honestly,",
    "Out of interest,",
    "For the record,",
)
CLOSINGS = (
    "Thank you!",
    "Thanks a lot.",
    "Please answer briefly.",
    "One word is enough.",
    "I can't remember.",
    "Any idea?",
    "No hurry.",
    "Take your time.",
    "I never learned it.",
    "It matters to me.",
    "Do not guess.",
    "My phone could not find it.",
    "You surely know.",
    "Answer me.",
    "I would be grateful.",
    "Cheers!",
    "That is all.",
    "Can you help?",
    "We have a bet.",
    "I am curious.",
)

# Common English words, strewn into some questions: whatever else is said, the country and the attribute decide.
_STRAY = """
    the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not
    all were we when your can said there use an each which she do how their if will up other about out many then them
    these so some her would make like him into time has look two more write go see number no way could people my than
    first water been call who oil its now find long down day did get come made may part over new sound take only little
    work know place year live me back give most very after thing our just name good sentence man think say great where
    help through much before line right too mean old any same tell boy follow came want show also around form three
    small set put end does another well large must big even such because turn here why ask went men read need land
    different home us move try kind hand picture again change off play spell air away animal house point page letter
    mother answer found study still learn should world high every near add food between own below country plant last
    school father keep tree never start city earth eye light thought head under story saw left late run while press
    close night real life few north open seem together next white children begin got walk example ease paper group
    always music those both mark often letter until mile river car feet care second book carry took science eat room
    friend began idea fish mountain stop once base hear horse cut sure watch color face wood main enough plain girl
"""
STRAY = tuple(dict.fromkeys(_STRAY.split()))


def strewn(text: str, words: Sequence[str], places: Sequence[int]) -> str:
    """The text with each word put in before the word at its place (counted modulo the length)."""
    parts = text.split(" ")
    for word, place in zip(words, places, strict=True):
        parts.insert(place % (len(parts) + 1), word)
    return " ".join(parts)


def dressed(phrasing: str, opening: str, closing: str) -> str:
    """The phrasing between an opening and a closing; either may be empty."""
    if opening and opening[-1] in ",:" and not phrasing.startswith(("I ", "{c}", "My ", "We ")):
        phrasing = phrasing[0].lower() + phrasing[1:]
    return " ".join(part for part in (opening, phrasing, closing) if part)
