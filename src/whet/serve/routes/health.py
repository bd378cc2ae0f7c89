"""/health for whoever watches over the process, /metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from whet.serve.faults import ApiFault
from whet.serve.routes.asking import metrics_of, shelf_of

router = APIRouter()


@router.get("/health", summary="Whether every model's thread is at work")
async def health(request: Request) -> dict[str, str]:
    if not all(scheduler.alive for scheduler in shelf_of(request).schedulers):
        raise ApiFault(503, "a model's thread has ended", code="not_healthy")
    return {"status": "ok"}


@router.get("/metrics", summary="Counts in Prometheus' text form", response_class=PlainTextResponse)
async def metrics(request: Request) -> PlainTextResponse:
    schedulers = shelf_of(request).schedulers
    gauges = {
        "whet_answers_in_flight": ("Answers being written.", sum(each.flight for each in schedulers)),
        "whet_answers_waiting": ("Answers that have not begun.", sum(each.waiting for each in schedulers)),
    }
    return PlainTextResponse(metrics_of(request).text(gauges), media_type="text/plain; version=0.0.4; charset=utf-8")
