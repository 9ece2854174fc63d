"""The server of a review: its protections, its errors, and what it gives to the page."""

import io

import pytest
import soundfile
from review.small_reviews import RATE
from starlette.testclient import TestClient

from kerastag.custom.answers import read_answers
from kerastag.review.app import create_app
from kerastag.review.config import ReviewConfig
from kerastag.serving.access import AccessPolicy
from kerastag.serving.config import ModelSpec, ServeConfig
from kerastag.serving.gateway import Gateway
from kerastag.serving.metrics import ServerMetrics

HOST = "http://127.0.0.1:8001"


def create_client(session, **options):
    config = ServeConfig((ModelSpec("review", "run"),), **options)
    gateway = Gateway(create_app(session), config, AccessPolicy(config), ServerMetrics({}), print)
    return TestClient(gateway, base_url=HOST)


@pytest.fixture
def client(open_session):
    return create_client(open_session())


def test_the_page_and_what_it_shares_with_other_pages_are_served(client):
    page = client.get("/")
    assert "Is this" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for name in ("review.js", "review.css", "base.css", "theme.js", "tracks.js", "style.css", "icon.svg"):
        assert client.get(f"/page/{name}").status_code == 200, name
    for name in ("../app.py", "..%2fapp.py", "%2e%2e/app.py"):
        assert client.get(f"/page/{name}").status_code == 404


def test_the_sound_of_a_question_is_a_wav_file_and_a_picture(client):
    number = client.get("/v1/review").json()["question"]["number"]
    samples, rate = soundfile.read(io.BytesIO(client.get(f"/v1/review/questions/{number}/audio").content))
    assert (rate, len(samples)) == (RATE, 2 * RATE)
    assert abs(samples).max() == pytest.approx(0.7, abs=0.01), "a quiet recording must be louder"
    overview = client.get(f"/v1/review/questions/{number}/overview").json()
    assert overview["duration_seconds"] == 2.0
    assert overview["overview"]["columns"] > 100


def test_an_answer_is_on_the_disk_when_the_server_has_answered(client, tmp_path):
    number = client.get("/v1/review").json()["question"]["number"]
    review = client.post(f"/v1/review/questions/{number}/answer", json={"answer": "no"}).json()
    assert review["question"]["number"] == number + 1
    assert [answer.answer for answer in read_answers(tmp_path / "review.sqlite")] == [False]
    assert client.post("/v1/review/undo").json()["question"]["number"] == number + 2
    assert read_answers(tmp_path / "review.sqlite") == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("get", "questions/99/audio", None, 409, "question 99 is not the present one, 1"),
        ("post", "questions/99/answer", {"answer": "yes"}, 409, "question 99 is not the present one, 1"),
        ("post", "questions/1/answer", {"answer": "maybe"}, 422, "`answer` must be yes, no, skip or class:NAME"),
        ("post", "questions/1/answer", {"answer": "class:/etc/passwd"}, 422, "`answer` must be yes, no, skip or"),
        ("post", "questions/1/answer", {"path": "/etc/passwd", "answer": "yes"}, 422, "`path`"),
        ("post", "questions/x/answer", {"answer": "yes"}, 422, "`number`"),
        ("get", "questions/..%2f..%2fetc/audio", None, 404, "Not Found"),
        ("post", "undo", None, 409, "there is no answer of this session to undo"),
        ("post", "write", None, 409, "there is no new head to write: train one first"),
    ],
)
def test_a_request_that_cannot_be_met_gets_one_line(client, method, path, body, status, message):
    response = client.request(method, f"/v1/review/{path}", json=body)
    assert response.status_code == status
    assert message in response.json()["error"]["message"]


def test_a_recording_that_has_gone_is_named_and_the_review_goes_on(client, open_session, trainer, tmp_path):
    session = open_session()
    client = create_client(session)
    path = session.get_part(1).path
    hidden = path.rename(path.with_suffix(".gone"))
    try:
        response = client.get("/v1/review/questions/1/audio")
        assert response.status_code == 500
        assert f"{path}: no such file" in response.json()["error"]["message"]
    finally:
        hidden.rename(path)
    assert client.post("/v1/review/questions/1/answer", json={"answer": "skip"}).status_code == 200


def test_pages_on_other_sites_are_refused(client):
    number = client.get("/v1/review").json()["question"]["number"]
    path = f"/v1/review/questions/{number}/answer"
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example:8001"}):
        assert client.post(path, json={"answer": "yes"}, headers=headers).status_code == 403, headers
        assert client.get("/v1/review", headers=headers).status_code == 403
    assert client.post(path, json={"answer": "yes"}, headers={"Origin": HOST}).status_code == 200


def test_other_machines_need_a_token(open_session, tmp_path):
    session, token = open_session(), tmp_path / "token"
    token.write_text("a long secret\n".replace(" ", "-"), encoding="utf-8")
    with pytest.raises(ValueError, match="`host` must be a loopback address"):
        create_client(session, host="0.0.0.0")
    client = create_client(session, host="0.0.0.0", token_file=str(token))
    assert client.get("/").status_code == 200
    assert client.get("/v1/review").status_code == 401
    assert client.get("/v1/review", headers={"Authorization": "Bearer a-long-secret"}).status_code == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_seconds": 0}, "`window_seconds` must be an integer from 1 to 30; received: 0"),
        ({"round_size": 0}, "`round_size` must be an integer from 1 to 1,000; received: 0"),
        ({"port": 65_536}, "`port` must be an integer from 0 to 65,535; received: 65536"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ReviewConfig(run="run", **options)
