"""FastAPI loaded without its models of a description, in a process that has not loaded it yet."""

from __future__ import annotations

import json
import subprocess
import sys

APPLICATION = """
from typing import Annotated
from fastapi import FastAPI, Header, Query
from fastapi.openapi import models
from pydantic import BaseModel
print(models.OpenAPI.__pydantic_complete__, BaseModel.model_config.get("defer_build", False))
class Body(BaseModel):
    names: tuple[str, ...] = ()
print(Body.__pydantic_complete__)
app = FastAPI(title="t")
@app.post("/act/{name}", status_code=202, summary="Acts")
async def act(name: str, body: Body | None = None, n: Annotated[int, Query(ge=1)] = 1,
              actor: Annotated[str, Header(alias="X-Actor")] = "api") -> dict[str, int]:
    return {"n": n}
import json
print(json.dumps(app.openapi(), sort_keys=True))
"""


def in_new_process(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_its_models_are_completed_when_a_description_is_asked_for_and_no_other_is_touched() -> None:
    later = in_new_process("import openbell.controller.api_library\n" + APPLICATION)
    at_once = in_new_process(APPLICATION)
    assert later[:2] == ["False False", "True"]
    assert at_once[:2] == ["True False", "True"]
    assert later[2] == at_once[2]
    assert "/act/{name}" in json.loads(later[2])["paths"]
