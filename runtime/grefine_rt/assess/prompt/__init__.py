"""A prompt as noun phrases, their ancestors and where they lie."""

from grefine_rt.assess.prompt.phrases import Phrase as Phrase
from grefine_rt.assess.prompt.phrases import prompt_phrases as prompt_phrases
from grefine_rt.assess.prompt.phrases import prompt_words as prompt_words
