"""Review as an operator meets it, and what teachers see of it."""

from __future__ import annotations

import grpc

from accrete.v1 import operation_pb2, teaching_pb2

from .world import World, example, failure, ids_of


def test_an_operator_lists_releases_and_drops_and_a_teacher_waits(world: World) -> None:
    running = world.server()
    sent = ids_of(running.add(*(example("cat", seed) for seed in range(3)), example("owl", 3)))
    lease = world.store.acquire_lease("me")
    assert lease is not None
    for label in ("cat", "owl"):
        entries = world.store.pending.read(label)
        world.store.review.set_aside(lease.epoch, label, [(entry, "duplicates") for entry in entries[:2]])
    lease.release()
    last = world.store.pending.read("cat")[-1].position
    world.publish(1, learned={"cat": last, "dog": "1-0"}, consumed={"cat": last})
    running.serves(1)

    call = running.operation
    groups = call.ListReview(operation_pb2.ListReviewRequest(), timeout=300).groups
    assert [(group.label, group.reason, group.examples) for group in groups] == [
        ("cat", "duplicates", 2),
        ("owl", "duplicates", 1),
    ]
    wait = teaching_pb2.WaitLearnedRequest(ids=sent[:3], timeout_ms=1)
    assert list(running.teaching.WaitLearned(wait, timeout=300).waiting) == sent[:2], "what is in review is not learned"

    assert (running.status().in_review, running.status().pending) == (3, 0)
    assert call.ReleaseReview(operation_pb2.ReleaseReviewRequest(label="cat"), timeout=300).released == 2
    assert call.DropReview(operation_pb2.DropReviewRequest(reason="duplicates"), timeout=300).dropped == 1
    assert world.store.pending.total().examples == 2
    failed = failure(lambda: call.DropReview(operation_pb2.DropReviewRequest(principal=""), timeout=300))
    assert (failed.code, failed.details) == (grpc.StatusCode.NOT_FOUND, "no such example in review: principal ''")
    failed = failure(lambda: call.ReleaseReview(operation_pb2.ReleaseReviewRequest(), timeout=300))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    failed = failure(lambda: call.DropReview(operation_pb2.DropReviewRequest(reason="nonsense"), timeout=300))
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.details == "reason: 'nonsense'; contradiction, duplicates, burst, share are allowed"
