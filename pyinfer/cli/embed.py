"""`pyinfer embed`: writes the embedding of each text in a line."""

from __future__ import annotations

import argparse
import json
import sys

from pyinfer.api.llm import LLM
from pyinfer.cli.arguments import add_loading_arguments, model_file, overrides_of
from pyinfer.cli.parser import Parser
from pyinfer.cli.texts import read_text
from pyinfer.errors import ParameterError
from pyinfer.tasks.embedding import check_pooling


def add_arguments(p: Parser) -> None:
    p.add_argument("model", help="a GGUF file or a model's name: an encoder (bert, nomic-bert) or any other")
    p.add_argument("texts", nargs="*", metavar="TEXT", help="a text")
    p.add_argument("-f", "--file", help="a file with a text a line, added after TEXT; -: standard input")
    p.add_argument(
        "--pooling", help="a text's vector: mean, cls (of the first token) or last (default: as the file says)"
    )
    p.add_argument("--no-normalize", action="store_true", help="do not scale vectors to length 1")
    p.add_argument("--truncate", action="store_true", help="cut texts that are longer than the context")
    p.words = "texts"
    add_loading_arguments(p, "threads", "ctx", "overrides")
    p.add_argument("--json", action="store_true", help="as JSON, with the pooling")


def run(args: argparse.Namespace) -> int:
    texts = [*args.texts, *(read_lines(args.file) if args.file else [])]
    if not texts:
        raise ParameterError("there is no text; expected some, or --file")
    path = model_file(args.model)
    with LLM(path, n_ctx=args.ctx, n_threads=args.threads, overrides=overrides_of(args)) as llm:
        pooling = check_pooling(llm.engine, args.pooling)
        rows = llm.embed(texts, pooling, normalize=not args.no_normalize, truncate=args.truncate)
    numbers = [[str(value) for value in row] for row in rows]  # as many digits as float32 has
    if args.json:
        embeddings = [[float(number) for number in row] for row in numbers]
        sys.stdout.write(json.dumps({"model": args.model, "pooling": pooling, "embeddings": embeddings}) + "\n")
    else:
        sys.stdout.writelines(" ".join(row) + "\n" for row in numbers)
    return 0


def read_lines(file: str) -> list[str]:
    return read_text(file).removesuffix("\n").split("\n")
