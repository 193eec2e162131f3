"""Pages of one file: pictures lie inside, and nothing is fetched from elsewhere."""

import base64
from pathlib import Path

import jinja2

from fewshot_node.disk import whole_file


def write_page(path: Path, package: str, template: str, **facts: object) -> None:
    """Fill a package's template, which may extend ``base.html.j2``; folders are made.

    Raises
    ------
    jinja2.UndefinedError
        The template asks for what is not among `facts`.
    """
    own, shared = jinja2.PackageLoader(package, "."), jinja2.PackageLoader("fewshot_node.pages", ".")
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([own, shared]), autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template(template).render(**facts)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def data_url(png: bytes) -> str:
    """Return a PNG file as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
