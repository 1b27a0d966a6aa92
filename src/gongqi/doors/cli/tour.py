"""`gongqi tour`: the whole chain once, on real data, through the public API alone.

Seven principals with a token each: the operator, a hospital that gives data, a laboratory that makes a model, two
reviewers, and an application with its agent. Nothing here has a back door: what the tour does, anyone with these tokens
can do. Each step is remembered in `GONGQI_HOME/tour/NAME.json` and every write carries an idempotency key made of the
tour's name and the step's, so a tour that was killed goes on where it was, and nothing is done twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from gongqi.doors.cli import laboratory
from gongqi.doors.cli.client import Client, Problem
from gongqi.doors.cli.main import language
from gongqi.doors.cli.push import push_folder
from gongqi.doors.cli.server import write_private
from gongqi.kernel.config import Settings
from gongqi.kernel.errors import Refused, Unavailable

UNIT = "CNY-fen"
PRICE_PER_ROW = 3
GRANT = 100_000
BUDGET = 50_000
WAIT_SECONDS = 120.0
POLL_SECONDS = 0.2
SPLIT = {"service": 2000, "model": 3500, "datasets": 2500, "compute": 1000, "foundation": 1000}  # basis points


@click.command()
@click.option("--name", default=None, help="names of what the tour makes begin with this")
@click.pass_context
def tour(ctx: click.Context, name: str | None) -> None:
    """Walk the whole chain: donate, review, release, serve, meter, pay back, improve, release again."""
    from gongqi.doors.cli.verbs import say_problem

    settings = Settings.from_environment()
    name = name or f"tour-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        with alone(settings.home / "tour", name):
            Tour(name, settings.home / "tour", Client.from_environment(language=language())).walk()
    except Problem as problem:
        say_problem(problem)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@contextlib.contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """One process at a time walks a tour: when a server dies alone, its tour may still be at work as the next one starts."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Tour:
    """One walk, remembered step by step."""

    def __init__(self, name: str, folder: Path, operator: Client) -> None:
        self.name = name
        self.folder = folder / name
        self.file = folder / f"{name}.json"
        self.done_file = folder / f"{name}.done"
        self.operator = operator
        self.url = str(operator.http.base_url)
        self.zh = language() == "zh"
        self.memory: dict[str, Any] = json.loads(self.file.read_text("utf-8")) if self.file.exists() else {}
        self.number = 0
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    # ---- the walk

    def walk(self) -> None:
        self.say("走完全链：真实数据、真实模型。", "Walking the whole chain, on real data and a real model.")
        self.principals()
        self.split_policy()
        data = self.donate_dataset()
        held_out = self.donate_evaluation_set()
        first = self.donate_model(data, held_out)
        deployment = self.deploy(first)
        self.use(deployment)
        second_data = self.flow_back(deployment, data)
        second = self.improve(first, second_data, held_out)
        self.compare(first, second, deployment)
        self.books()
        self.adjourn()
        self.done_file.write_text("done\n", "ascii")

    def principals(self) -> None:
        """Everyone comes in as anyone would: invited, by a one-time link, then with a password and a token of their own."""
        self.orgs = {
            role: self.once(f"org-{role}", lambda role=role, name=name: self.organisation(role, name))
            for role, name in {
                "hospital": ("示例医院", "Example Hospital"),
                "laboratory": ("示例实验室", "Example Laboratory"),
                "application": ("示例应用", "Example Application"),
            }.items()
        }
        self.orgs["foundation"] = self.operator.read("members:party:list", handle="foundation")["items"][0]["id"]
        people = {
            role: self.person(role, self.orgs[role], "owner") for role in ("hospital", "laboratory", "application")
        }
        people |= {f"reviewer-{n}": self.person(f"reviewer-{n}", "*", "reviewer") for n in (1, 2)}
        self.clients = {role: Client(self.url, token, language=language()) for role, token in people.items()}
        self.check_board()
        self.clients["agent"] = Client(self.url, self.agent(), language=language())
        self.line(
            "三个组织、两名审查人、一个智能体，各持自己的令牌",
            "three organisations, two reviewers and an agent, each with a token of their own",
        )

    def check_board(self) -> None:
        """A review waits for every reviewer on its roster, and the tour cannot vote for people it does not know."""
        ours = {self.clients[f"reviewer-{number}"].read("members:me:show")["id"] for number in (1, 2)}
        sitting = {each["party"] for each in self.reviewers()}
        if sitting - ours:
            raise Refused("cli.tour-board", count=len(sitting - ours))

    def reviewers(self) -> list[dict[str, Any]]:
        held = self.operator.every("members:membership:list", org="*")
        return [each for each in held if each["role"] == "reviewer" and each["until"] is None]

    def adjourn(self) -> None:
        """The two reviewers leave the board again, so that it does not wait for them on anyone's release."""
        for each in self.reviewers():
            self.operator.verb("members:membership:end", key=self.key(f"end-{each['id']}"), membership=each["id"])

    def organisation(self, role: str, names: tuple[str, str]) -> str:
        label = f"{names[0]} {names[1]}" + ("" if self.name == "first" else f" ({self.name})")
        made = self.operator.verb(
            "members:organisation:create", key=self.key(f"org-{role}"), handle=self.handle(role), name=label
        )
        return made["id"]

    def person(self, role: str, org: str, position: str) -> str:
        """The token of one person. Made anew when the walk was cut before it was kept; the password is kept first."""
        file = self.folder / f"{role}.password"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24) + "\n")
        password = file.read_text("ascii").strip()

        def come_in() -> str:
            inside = {} if org == "*" else {"org": org, "role": position}
            handle = self.handle(f"{role}-person")
            made = self.operator.verb(
                "members:person:create", key=self.key(f"person-{role}"), handle=handle, name=handle, **inside
            )
            if org == "*":
                self.operator.verb(
                    "members:membership:grant", key=self.key(f"role-{role}"), party=made["id"], org="*", role=position
                )
            session = self.sign_in(made["id"], handle, password)
            person = Client(self.url, session["secret"])
            token = person.verb("members:token:issue", label=self.name, days=30)["secret"]
            person.verb("members:session:end", session=session["session"])
            return token

        return self.once(f"token-{role}", come_in)

    def sign_in(self, party: str, handle: str, password: str) -> dict[str, Any]:
        """As every newcomer does: by a link once, to set a password; then by that, which nobody else could."""
        nobody = Client(self.url, None)
        try:
            return nobody.sign_in(handle, password)
        except Problem as problem:
            if problem.code != "members.credentials-wrong":
                raise
        link = self.operator.verb("members:signin:link", party=party)["link"]
        first = nobody.verb("members:signin:redeem", secret=link.rsplit("/", 1)[1])
        Client(self.url, first["secret"]).verb("members:password:set", password=password)
        return nobody.sign_in(handle, password)

    def agent(self) -> str:
        def make() -> str:
            owner = self.clients["application"]
            made = owner.verb(
                "members:agent:create",
                key=self.key("agent"),
                handle=self.handle("agent"),
                name=self.handle("agent"),
                org=self.orgs["application"],
                role="developer",
            )
            return owner.verb("members:token:issue", party=made["id"], label=self.name)["secret"]  # ends as the owner's

        return self.once("token-agent", make)

    def split_policy(self) -> None:
        if not self.operator.read("credits:policy:list")["items"]:
            self.act(self.operator, "policy", "credits:policy:publish", **SPLIT)

    def donate_dataset(self) -> dict[str, Any]:
        folder = self.folder / "dataset"
        parts = laboratory.make_dataset(folder)
        titles = ("威斯康星乳腺癌诊断数据", "Breast Cancer Wisconsin (Diagnostic)")
        summaries = (
            "乳腺肿块细胞核的三十项测量，每条附良恶性诊断。",
            "Thirty measurements of the cell nuclei of a breast mass, each record with its diagnosis.",
        )
        asset = self.donate("hospital", "breast-cancer-wisconsin", "dataset", parts[0].license, titles, summaries)
        revision = self.push("data-1", "hospital", asset, folder, parts, "第一批记录 First records", [])
        rows = sum(1 for _ in (folder / "data.csv").open("rb")) - 1
        self.line(f"上游：医院捐赠数据集，{rows} 条记录", f"upstream: the hospital donates a dataset of {rows} records")
        release = self.release("data-1", "hospital", asset, revision, "1.0.0")
        return {"asset": asset, "revision": revision, "release": release, "folder": folder}

    def donate_evaluation_set(self) -> dict[str, Any]:
        folder = self.folder / "evaluation"
        parts = laboratory.make_evaluation_set(folder)
        asset = self.act(
            self.operator,
            "eval-asset",
            "hub:asset:create",
            org=self.orgs["foundation"],
            slug=self.handle("wisconsin-held-out"),
            kind="dataset",
            title_zh="威斯康星乳腺癌留出评测集",
            title_en="Breast Cancer Wisconsin, held-out evaluation set",
            summary_zh="从不用于训练的记录。",
            summary_en="Records that are never trained on.",
        )["id"]
        revision = self.push("eval-1", None, asset, folder, parts, "评测集 Evaluation set", [])
        rows = sum(1 for _ in (folder / "data.csv").open("rb")) - 1
        self.line(
            f"标准：基金会留出 {rows} 条评测记录", f"standards: the foundation holds {rows} records out to evaluate on"
        )
        release = self.release("eval-1", None, asset, revision, "1.0.0")
        self.act(self.operator, "eval-open", "hub:asset:open", asset=asset, visibility="public")
        return {"asset": asset, "revision": revision, "release": release}

    def donate_model(self, data: dict[str, Any], held_out: dict[str, Any]) -> dict[str, Any]:
        titles = ("乳腺癌诊断模型", "Breast cancer diagnosis model")
        summaries = (
            "由三十项细胞核测量估计肿块为恶性的概率；供研究，不作诊断依据。",
            "From thirty measurements of cell nuclei, the probability that a mass is malignant; for research only.",
        )
        asset = self.donate(
            "laboratory", "breast-cancer-diagnosis", "model", "Apache-2.0 AND CC-BY-4.0", titles, summaries
        )
        return self.train_and_release("model-1", asset, data, held_out, "1.0.0")

    def train_and_release(
        self, step: str, asset: str, data: dict[str, Any], held_out: dict[str, Any], name: str
    ) -> dict[str, Any]:
        """The laboratory fetches the released data, trains on its own machine and donates what it made."""
        source, folder = self.folder / f"{step}-data", self.folder / step
        laboratory_client = self.clients["laboratory"]
        source.mkdir(exist_ok=True)
        for file in ("data.csv", "README.md"):
            laboratory_client.download(f"/api/v1/hub/revision/{data['revision']}/file/{file}", source / file)
        digest = laboratory_client.read("hub:revision:get", data["revision"])["digest"]
        parts = laboratory.train(
            [source / "data.csv"], folder, data_card=source / "README.md", lineage=[f"{data['asset']}@{digest}"]
        )
        lineage = [
            {"relation": "trained-on", "revision": data["revision"]},
            {"relation": "evaluated-on", "revision": held_out["revision"]},
        ]
        revision = self.push(step, "laboratory", asset, folder, parts, f"模型 {name} Model {name}", lineage)
        self.line(f"上游：实验室训练模型 {name} 并捐赠", f"upstream: the laboratory trains model {name} and donates it")
        release = self.release(step, "laboratory", asset, revision, name, evaluated=True)
        return {"asset": asset, "revision": revision, "release": release}

    def donate(
        self, role: str, slug: str, kind: str, licence: str, titles: tuple[str, str], summaries: tuple[str, str]
    ) -> str:
        offered = self.act(
            self.clients[role],
            f"offer-{slug}",
            "upstream:donation:offer",
            org=self.orgs[role],
            slug=self.handle(slug),
            kind=kind,
            title_zh=titles[0],
            title_en=titles[1],
            summary_zh=summaries[0],
            summary_en=summaries[1],
            license=licence,
            provenance="UCI Machine Learning Repository, dataset 17, doi:10.24432/C5DW2B",
            patent_scope="donated-work",
            patent_text="",
            schedule=[{"audience": "members", "opens_at": None}, {"audience": "public", "opens_at": None}],
        )
        self.act(self.operator, f"accept-{slug}", "upstream:donation:accept", donation=offered["id"])
        return offered["asset"]

    def push(
        self,
        step: str,
        role: str | None,
        asset: str,
        folder: Path,
        parts: list[laboratory.Part],
        message: str,
        lineage: list[dict[str, str]],
    ) -> str:
        client = self.clients[role] if role else self.operator
        kinds = {part.path: f"{part.component}:{part.license}" for part in parts}

        def commit() -> str:
            return push_folder(
                client, asset, folder, message=message, kinds=kinds, lineage=lineage, key=self.key(f"commit-{step}")
            )["id"]

        return self.once(f"revision-{step}", commit)

    def release(
        self, step: str, role: str | None, asset: str, revision: str, name: str, *, evaluated: bool = False
    ) -> str:
        """Draft, submit, wait for the evaluation, let two reviewers vote, ask the gates, publish."""
        client = self.clients[role] if role else self.operator
        release = self.act(client, f"draft-{step}", "hub:release:draft", asset=asset, revision=revision, name=name)[
            "id"
        ]
        self.act(client, f"submit-{step}", "hub:release:submit", release=release)
        if evaluated:
            metrics = self.evaluation(release)["metrics"]
            self.line(
                f"标准：伦理评测，准确率 {metrics['accuracy']:.4f}，子群差距 {metrics['accuracy_gap']:.4f}",
                f"standards: evaluated, accuracy {metrics['accuracy']:.4f}, subgroup gap {metrics['accuracy_gap']:.4f}",
            )
        case = self.wait(lambda: self.case_of(release))
        for number in (1, 2):
            self.act(
                self.clients[f"reviewer-{number}"],
                f"vote-{step}-{number}",
                "ethics:vote:cast",
                case=case,
                choice="approve",
                rationale="依据卡片、许可与评测结果 On the card, the licences and the evaluation",
            )
        published = self.act(self.operator, f"publish-{step}", "hub:release:publish", release=release)
        checked = self.operator.read("hub:release:check", release=release)
        passed = sum(answer["decision"] != "deny" for answer in checked["answers"])
        self.line(
            f"标准：关卡的 {passed} 项理由均成立，已签名并发布 {published['name']}",
            f"standards: the gates' {passed} reasons hold; {published['name']} signed and released",
        )
        self.wait(lambda: self.bundled(release))
        return release

    def case_of(self, release: str) -> str | None:
        items = self.operator.read("ethics:case:list", release=release)["items"]
        return items[0]["id"] if items else None

    def evaluation(self, release: str) -> dict[str, Any]:
        def done() -> dict[str, Any] | None:
            try:
                found = self.operator.read("ethics:evaluation:get", release)
            except Problem as problem:
                if problem.code == "access.not-found":
                    return None
                raise
            return found if found["state"] != "queued" else None

        return self.wait(done)["result"]

    def bundled(self, release: str) -> Path | None:
        """The offline bundle, once the log has taken the release in."""
        file = self.folder / f"{release}.gongqi"
        if file.exists():
            return file
        try:
            self.operator.download(f"/api/v1/hub/release/{release}/bundle", file)
        except Problem as problem:
            if problem.document.get("status") == 503:
                return None
            raise
        from gongqi.resources.hub.verify import verify_bundle

        report = verify_bundle(file, trusted_key_ids=None)
        self.line(
            f"离线核验：{sum(claim.holds for claim in report.claims)} / {len(report.claims)} 项成立",
            f"verified offline: {sum(claim.holds for claim in report.claims)} of {len(report.claims)} claims hold",
        )
        return file

    def deploy(self, model: dict[str, Any]) -> dict[str, Any]:
        owner = self.clients["application"]
        deployment = self.act(
            self.operator,
            "deploy",
            "serving:deployment:create",
            release=model["release"],
            name=self.handle("diagnosis"),
            org=self.orgs["foundation"],
            unit=UNIT,
            price_per_row=PRICE_PER_ROW,
            agreement_zh="应用可回传带真实诊断的记录，用于改进数据集；不含任何可识别个人的内容；保留至数据集撤回为止。",
            agreement_en="The application may return records with their true diagnosis to improve the dataset. They hold "
            "nothing that identifies a person, and are kept until the dataset is withdrawn.",
        )
        grant = {"owner": self.orgs["application"], "unit": UNIT, "amount": GRANT, "purpose": "example"}
        self.act(self.operator, "grant", "ledger:credit:grant", **grant)
        self.act(
            owner,
            "budget",
            "serving:budget:set",
            deployment=deployment["id"],
            org=self.orgs["application"],
            limit_amount=BUDGET,
        )
        self.act(
            owner, "agreement", "scenarios:agreement:sign", deployment=deployment["id"], org=self.orgs["application"]
        )
        self.line(
            f"场景：部署 {deployment['name']}，每条 {PRICE_PER_ROW / 100:.2f} 元",
            f"scenarios: deployed {deployment['name']} at {PRICE_PER_ROW / 100:.2f} CNY a record",
        )
        return deployment

    def use(self, deployment: dict[str, Any]) -> None:
        """The agent asks about the records it meets; later it reports what turned out to be true."""
        agent, fees, right, seen = self.clients["agent"], 0, 0, 0
        for number, batch in enumerate(laboratory.outcomes(), start=1):
            answer = self.once(f"infer-{number}", lambda n=number, b=batch: self.infer(deployment["name"], n, b))
            outputs = {output["name"]: output["data"] for output in answer["outputs"]}
            right += sum(int(a) == b for a, b in zip(outputs["label"], batch.labels, strict=True))
            seen += len(batch.labels)
            fees += answer["parameters"]["fee"]
            columns = laboratory.table().columns
            records = [
                {"row": row, "record": record, "features": dict(zip(columns, features, strict=True)), "label": label}
                for row, (record, features, label) in enumerate(
                    zip(batch.records, batch.features, batch.labels, strict=True)
                )
            ]
            self.act(
                agent,
                f"outcome-{number}",
                "scenarios:outcome:report",
                deployment=deployment["id"],
                call=answer["parameters"]["call"],
                records=records,
            )
            last = answer["parameters"]["call"]
        self.line(
            f"场景：{number} 次调用，{seen} 条记录，{right} 条判对，计费 {fees / 100:.2f} 元",
            f"scenarios: {number} calls, {seen} records, {right} right, {fees / 100:.2f} CNY metered",
        )
        split = self.wait(lambda: next(iter(self.operator.read("credits:split:list", call=last)["items"]), None))
        names = {
            "service": ("服务", "service"),
            "model": ("模型", "model"),
            "datasets": ("数据", "datasets"),
            "compute": ("算力", "compute"),
            "foundation": ("基金会", "foundation"),
        }
        shares = {each["share"]: 0 for each in split["lines"]}
        for each in split["lines"]:
            shares[each["share"]] += each["amount"]
        zh = "、".join(f"{names[k][0]} {v}" for k, v in shares.items())
        en = ", ".join(f"{names[k][1]} {v}" for k, v in shares.items())
        self.line(
            f"回流：末次费用 {split['fee']} 分，分给 {zh}", f"back: the last fee of {split['fee']} fen goes to {en}"
        )

    def infer(self, name: str, number: int, batch: laboratory.Batch) -> dict[str, Any]:
        body = {
            "inputs": [
                {
                    "name": "features",
                    "datatype": "FP32",
                    "shape": [len(batch.features), len(batch.features[0])],
                    "data": [value for row in batch.features for value in row],
                }
            ]
        }
        agent = self.clients["agent"]
        headers = {"idempotency-key": self.key(f"infer-{number}")}
        return agent._json(lambda: agent.http.post(f"/v2/models/{name}/infer", json=body, headers=headers))

    def flow_back(self, deployment: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        hospital = self.clients["hospital"]
        started = self.act(
            hospital, "return", "scenarios:return:start", deployment=deployment["id"], asset=data["asset"]
        )

        def finished() -> dict[str, Any] | None:
            found = hospital.read("scenarios:return:get", started["id"])
            return found if found["revision"] else None

        returned = self.wait(finished)
        self.line(
            f"回流：{returned['count']} 条真实结果成为数据集的新版本",
            f"back: {returned['count']} true outcomes become the dataset's next revision",
        )
        release = self.release("data-2", "hospital", data["asset"], returned["revision"], "2.0.0")
        return {"asset": data["asset"], "revision": returned["revision"], "release": release}

    def improve(self, first: dict[str, Any], data: dict[str, Any], held_out: dict[str, Any]) -> dict[str, Any]:
        return self.train_and_release("model-2", first["asset"], data, held_out, "2.0.0")

    def compare(self, first: dict[str, Any], second: dict[str, Any], deployment: dict[str, Any]) -> None:
        self.act(
            self.operator,
            "upgrade",
            "serving:deployment:upgrade",
            deployment=deployment["id"],
            release=second["release"],
        )
        before, after = (self.evaluation(each["release"])["metrics"] for each in (first, second))
        self.line(
            f"改进：准确率 {before['accuracy']:.4f} → {after['accuracy']:.4f}，"
            f"Brier 分数 {before['brier']:.4f} → {after['brier']:.4f}",
            f"improved: accuracy {before['accuracy']:.4f} → {after['accuracy']:.4f}, "
            f"Brier score {before['brier']:.4f} → {after['brier']:.4f}",
        )

    def books(self) -> None:
        size = self.operator.read("evidence:log:checkpoint")["size"]
        report = self.operator.read("ledger:book:check")
        balanced = ("账本平衡", "the ledger balances") if report["true"] else ("账本不平", "THE LEDGER IS FALSE")
        self.line(f"证据日志 {size} 条；{balanced[0]}", f"{size} entries in the evidence log; {balanced[1]}")

    # ---- remembering, waiting, saying

    def once(self, step: str, work: Callable[[], Any]) -> Any:
        if step not in self.memory:
            self.memory[step] = work()
            write_private(self.file, json.dumps(self.memory, ensure_ascii=False))
        return self.memory[step]

    def act(self, client: Client, step: str, verb: str, /, **input: Any) -> dict[str, Any]:
        return self.once(step, lambda: client.verb(verb, key=self.key(step), **input))

    def key(self, step: str) -> str:
        return f"tour:{self.name}:{step}"

    def handle(self, word: str) -> str:
        return word if self.name == "first" else f"{self.name}-{word}"[:40].rstrip("-")

    def wait(self, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            found = look()
            if found is not None:
                return found
            time.sleep(POLL_SECONDS)
        raise Unavailable("cli.waited-too-long", seconds=int(WAIT_SECONDS))

    def say(self, zh: str, en: str) -> None:
        click.echo(zh if self.zh else en)

    def line(self, zh: str, en: str) -> None:
        self.number += 1
        mark = click.style("印" if self.zh else "■", fg="red") if sys.stdout.isatty() else "-"
        self.say(f"{mark} {self.number:2d} {zh}", f"{mark} {self.number:2d} {en}")
        sys.stdout.flush()
