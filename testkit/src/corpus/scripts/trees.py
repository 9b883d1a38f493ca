# Syntax trees and code objects of Python's own library, kept alive, and a SQLite database in memory over the same sources.
import ast, os, sqlite3, sys
trees, codes, left = [], [], 5 << 20
base = sqlite3.connect(":memory:")
base.execute("create table line (file text, number integer, content text)")
base.execute("create index by_content on line (content)")
for where, _, names in sorted(os.walk(os.path.dirname(os.__file__))):
    for name in sorted(names):
        if not name.endswith(".py") or left <= 0:
            continue
        try:
            text = open(os.path.join(where, name), encoding="utf-8").read()
            tree = ast.parse(text)
            codes.append(compile(tree, name, "exec"))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        left -= len(text)
        trees.append(tree)
        base.executemany("insert into line values (?, ?, ?)", ((name, n, l) for n, l in enumerate(text.splitlines())))
print("ready", flush=True)
sys.stdin.read()
