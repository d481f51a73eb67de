"""A JSON schema as a grammar in llguidance's dialect of Lark, with what the grammar does not hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pyinfer.guides.schema.graph import Graph
from pyinfer.guides.schema.layout import FIXED_LAYOUT, FREE_LAYOUT, Layout, layout_of
from pyinfer.guides.schema.normal import Normalizer
from pyinfer.guides.schema.plans import Planner
from pyinfer.guides.schema.report import Report
from pyinfer.guides.schema.source import Schema, parse_schema
from pyinfer.guides.schema.writer import Writer

MAX_KEPT = 64  # grammars; a large one takes some megabytes


@dataclass(frozen=True)
class SchemaRules:
    """Rules and terminals, of which the value `start` writes a text; warnings: what they do not hold."""

    start: str
    lines: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def lark(self) -> str:
        """The grammar."""
        return "\n".join(("%llguidance {}", f"start: {self.start}", *self.lines)) + "\n"


def schema_rules(schema: Schema, layout: Layout, prefix: str = "") -> SchemaRules:
    """Write the rules of a schema, whose names begin with a prefix.

    Raises ParameterError for what is no schema, for one that no finite value meets, and where it is too large.
    """
    report = Report()
    normalizer = Normalizer(schema, report)
    graph = Graph(Planner(normalizer, report), normalizer.places.root, report)
    writer = Writer(graph, layout, prefix)
    return SchemaRules(writer.start, tuple(writer.lines()), report.messages)


@lru_cache(maxsize=MAX_KEPT)
def compile_schema(source: str, whitespace: bool = True) -> SchemaRules:
    """Write the grammar of a schema that is given as a text; see `schema_rules`."""
    schema = parse_schema(source)
    options = schema.get("x-guidance") if isinstance(schema, dict) else None
    layout = layout_of(options) if isinstance(options, dict) else FREE_LAYOUT if whitespace else FIXED_LAYOUT
    return schema_rules(schema, layout)
