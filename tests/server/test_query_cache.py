"""A query's document is that of the query, whichever queries of its shape came before."""

import threading

import graphql
import pytest
from graphql import parse, print_ast

from workshop_server.errors import RequestError
from workshop_server.graph import query_cache, schema
from workshop_server.settings import Limits

ONE, OTHER = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"


def same_after(known: query_cache.QueryCache, query: str) -> bool:
    with known.use(query, Limits(), {}) as document:
        return print_ast(document) == print_ast(parse(query))


@pytest.mark.parametrize("shape", [
    'query {{ flow_run(where: {{id: {{_eq: "{0}"}}}}, limit: {1}) {{ id name }} }}',
    'query {{ flow_run(limit: {1}, where: {{name: {{_in: ["{0}", "x", "{1}"]}}}}) {{ id }} }}',
    'query {{ flow_run(limit: {1}) {{ id }} project(where: {{name: {{_eq: "{0}"}}}}, offset: {1}) {{ id }} }}',
    'mutation {{ create_project(input: {{name: "{0}", description: "a {1}"}}) {{ id }} }}',
    'query ($n: Int = {1}) {{ project(limit: $n, where: {{name: {{_eq: "{0}"}}}}) {{ id }} }}',
    'query {{ # "{0}" and {1}\n project(limit: {1}, where: {{name: {{_eq: "{0}"}}}}) {{ id }} }}',
    'query {{ project(limit: 3, where: {{name: {{_eq: """{0} "{1}" """}}}}) {{ id }} }}',
    'query {{ project(limit: 1 # "{0}\n where: {{name: {{_eq: "{1}"}}}}) {{ id }} }}',
])
def test_literals_are_those_of_the_query(shape: str) -> None:
    known = query_cache.QueryCache(schema.SCHEMA)
    for values in ((ONE, 1), (OTHER, 2), ("", 3), ("a\\\"b\\u00e9", 4), ("ö", 0), ("x", 10), (ONE, 1), ("#", -1)):
        query = shape.format(*values)
        assert same_after(known, query), query


def test_two_that_use_one_shape_at_once() -> None:
    known = query_cache.QueryCache(schema.SCHEMA)
    query = 'query {{ project(where: {{name: {{_eq: "{}"}}}}) {{ id }} }}'.format
    assert same_after(known, query("first"))  # which makes the shape known
    for _ in range(2):
        with known.use(query("a"), Limits(), {}) as a, known.use(query("b"), Limits(), {}) as b:
            assert '"a"' in print_ast(a) and '"b"' in print_ast(b)


def test_queries_of_one_shape_are_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known, validated = query_cache.QueryCache(schema.SCHEMA), []

    def validate(*arguments: object, **options: object) -> list:
        validated.append(arguments)
        return graphql.validate(*arguments, **options)

    monkeypatch.setattr(query_cache, "validate", validate)
    for number, name in enumerate((ONE, OTHER, "", "a\\\"b", "#")):
        assert same_after(known, f'{{ project(where: {{name: {{_eq: "{name}"}}}}, limit: {number}) {{ id }} }}')
    assert len(validated) == 1
    for number in (1, 2):
        query = f"{{ project(limit: {number}) {{ nothing }} }}"
        with pytest.raises(query_cache.InvalidQueryError, match="nothing"), known.use(query, Limits(), {}):
            pass
    assert len(validated) == 3  # what is not valid is not kept


def test_many_threads() -> None:
    known, wrong = query_cache.QueryCache(schema.SCHEMA), []

    def work(name: str) -> None:
        for number in range(200):
            query = f'query {{ project(where: {{name: {{_eq: "{name} {number}"}}}}, limit: {number}) {{ id }} }}'
            if not same_after(known, query):
                wrong.append(query)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_does_not_parse_is_said_of_the_query_itself() -> None:
    known = query_cache.QueryCache(schema.SCHEMA)
    query = "query {{ project(limit: {}) {{ id }} }}".format
    assert same_after(known, query(5))
    for number in ("05", "5.", "5a"):  # the first of them has the shape of a good one
        with pytest.raises(query_cache.InvalidQueryError), known.use(query(number), Limits(), {}):
            pass
    assert same_after(known, query(6))


def test_what_is_kept_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_cache, "MOST", 1000)
    known = query_cache.QueryCache(schema.SCHEMA)
    for number in range(100):
        assert same_after(known, f"query {{ a{number}: project(limit: {number}) {{ id }} }}")
        assert sum(map(len, known._shapes)) <= 1000
    long = "{ project { id } }" + " " * query_cache.LONGEST_SHAPE
    assert same_after(known, long) and long not in known._shapes
    with pytest.raises(RequestError), known.use("#" * (query_cache.LONGEST + 1), Limits(), {}):
        pass
