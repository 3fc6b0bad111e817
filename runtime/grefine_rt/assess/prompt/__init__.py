"""A prompt as noun phrases with their ancestors and the places of things."""

from grefine_rt.assess.prompt.phrases import MAX_CHARACTERS as MAX_CHARACTERS
from grefine_rt.assess.prompt.phrases import MAX_WORDS as MAX_WORDS
from grefine_rt.assess.prompt.phrases import Phrase as Phrase
from grefine_rt.assess.prompt.phrases import check_length as check_length
from grefine_rt.assess.prompt.phrases import forget_prompts as forget_prompts
from grefine_rt.assess.prompt.phrases import prompt_phrases as prompt_phrases
from grefine_rt.assess.prompt.phrases import prompt_words as prompt_words
