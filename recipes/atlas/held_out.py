"""Phrasings that no model is trained on.

DEV may be looked at while tuning. TEST is for the final judgement only: it was written by hand, as a person might
really ask, and before the training phrasings took the shape that it judges. The first test set showed that they were
too few (0.86 to 0.94 right); since it has been looked at, it is a part of DEV, and this TEST was written in its place.
`{c}` is the country, with its article.
"""

TEST = {
    "capital": (
        "Which city is known as the capital of {c}?",
        "My daughter has to learn the capital of {c}. Which city is it?",
        "When somebody says capital of {c}, which city do they mean?",
        "Can anyone here tell me {c}'s capital?",
        "I need to write down the capital of {c}, what do I put?",
        "{c} and its capital: what is the city called?",
    ),
    "continent": (
        "Which continent does {c} sit on?",
        "If I look for {c} on a globe, on which continent do I look?",
        "Which of the continents is {c} part of?",
        "My daughter has to learn which continent {c} is on. Which is it?",
        "{c} can be found on which continent?",
        "Could anyone here tell me {c}'s continent?",
    ),
    "currency": (
        "What kind of money do I take along to {c}?",
        "Which currency do the shops in {c} accept?",
        "My daughter has to learn the currency of {c}. Which is it?",
        "What would I pay with in a restaurant in {c}?",
        "{c} and its money: what is the currency called?",
        "Which currency do banks in {c} give out?",
    ),
    "language": (
        "Which language do children learn at home in {c}?",
        "What is the official language over in {c}?",
        "If someone comes from {c}, what language do they most likely speak?",
        "My daughter has to learn the official language of {c}. Which is it?",
        "Which language are the newspapers in {c} written in?",
        "{c} and its language: what is it called?",
    ),
}

DEV = {
    "capital": (
        "Hi, could you look up the capital of {c} for me?",
        "{c}'s capital is which city?",
        "My friend lives in {c}. Which city is the capital there?",
        "What would you say is the capital of {c}?",
        "Which city serves as the capital of {c}?",
        "I'm travelling to {c}. What is its capital called?",
        "Do you happen to know what {c} has as its capital?",
        "{c} has which city as its capital?",
        "Someone asked me about the capital of {c}, what should I answer?",
        "Just the capital of {c}, thanks.",
    ),
    "continent": (
        "Hi, could you look up the continent of {c} for me?",
        "Is {c} in Europe, Asia or somewhere else?",
        "My friend lives in {c}. Which continent is that?",
        "What would you say is the continent of {c}?",
        "Where in the world is {c}, which continent?",
        "{c} is part of which continent?",
        "On what continent would I find {c}?",
        "Someone asked me which continent {c} is on, what should I answer?",
        "To what continent does {c} belong?",
        "Just the continent of {c}, thanks.",
    ),
    "currency": (
        "Hi, could you look up the currency of {c} for me?",
        "How do I pay in {c}, in which currency?",
        "My friend lives in {c}. What money is used there?",
        "What would you say is the currency of {c}?",
        "What do people in {c} pay with?",
        "If I go shopping in {c}, which currency will I need?",
        "I'm travelling to {c}. What is its currency called?",
        "Which currency is legal tender in {c}?",
        "What sort of money would I need in {c}?",
        "Just the currency of {c}, thanks.",
    ),
    "language": (
        "Hi, could you look up the official language of {c} for me?",
        "How do people talk in {c}, in which language?",
        "My friend lives in {c}. What language do they speak there?",
        "What would you say is the language of {c}?",
        "What do people in {c} speak?",
        "If I move to {c}, which language should I learn?",
        "Which tongue is official in {c}?",
        "I'm travelling to {c}. What language is used there?",
        "What language would I hear in the streets of {c}?",
        "Just the official language of {c}, thanks.",
    ),
}
