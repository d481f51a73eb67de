"""Chats: messages become a prompt by the model's template; the answer is split into reasoning, text and tool calls."""

from pyinfer.chat.answer import Answer, AnswerDelta, AnswerParser
from pyinfer.chat.calls import ChatCompletion, Turn, prepare_turn
from pyinfer.chat.conversation import ChatPrompt, encode_chat, prepare_chat
from pyinfer.chat.templates import builtin_templates, choose_template, render
from pyinfer.chat.tool_formats import ToolFormat
from pyinfer.chat.tool_probe import tool_format
from pyinfer.chat.tools import ToolCall

__all__ = [
    "Answer",
    "AnswerDelta",
    "AnswerParser",
    "ChatCompletion",
    "ChatPrompt",
    "ToolCall",
    "ToolFormat",
    "Turn",
    "builtin_templates",
    "choose_template",
    "encode_chat",
    "prepare_chat",
    "prepare_turn",
    "render",
    "tool_format",
]
