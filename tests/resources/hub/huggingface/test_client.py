"""The stock client, as its users use it, against a foundation that serves. Nothing is set but endpoint and token.

(And HF_HUB_DISABLE_XET, for as long as large files come by Git LFS only.)
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

pytestmark = pytest.mark.long

CARD = """---
license: apache-2.0
language: [zh, en]
library_name: onnx
pipeline_tag: tabular-classification
tags: [oncology]
pretty_name: Sample
---
# A model
"""
WEIGHTS = bytes(range(256)) * 4096  # a megabyte that no inspector takes for text


def test_the_client_is_of_the_major_that_was_asked_for() -> None:
    assert huggingface_hub.__version__.split(".")[0] == os.environ.get("GONGQI_TEST_HF_MAJOR", "2")


def test_the_client_learns_who_it_is(hub: Any, api: HfApi) -> None:
    me = api.whoami()
    assert me["name"] == "donor" and me["type"] == "user"
    assert [org["name"] for org in me["orgs"]] == ["north"]
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(endpoint=hub.foundation.url, token="hf_" + "x" * 34).whoami()
    assert refused.value.response.status_code == 401


def test_a_repository_is_made_once_and_is_private_unless_said(hub: Any, api: HfApi) -> None:
    url = api.create_repo("north/made-once")
    assert (url.repo_id, url.repo_type) == ("north/made-once", "model")
    assert hub.asset(hub.donor, "north/made-once")["visibility"] == "private"
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo("north/made-once")
    assert refused.value.response.status_code == 409
    assert api.create_repo("north/made-once", exist_ok=True).repo_id == "north/made-once"
    assert api.create_repo("of-my-only-organisation", repo_type="dataset").repo_id == "north/of-my-only-organisation"
    with pytest.raises(RepositoryNotFoundError):
        hub.api(hub.other).repo_info("north/made-once")
    with pytest.raises(HfHubHTTPError):
        hub.api(hub.other).create_repo("north/not-mine")


def test_an_empty_repository_can_be_looked_at_pinned_and_filled(api: HfApi, repo: str, tmp_path: Path) -> None:
    empty = api.model_info(repo)
    assert empty.sha and empty.siblings == []
    assert api.list_repo_files(repo) == [] and api.list_repo_commits(repo) == []
    assert [branch.name for branch in api.list_repo_refs(repo).branches] == ["main"]
    assert Path(api.snapshot_download(repo, revision=empty.sha, local_dir=tmp_path)).is_dir()
    made = api.upload_file(
        path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id=repo, parent_commit=empty.sha
    )
    assert api.model_info(repo).sha == made.oid != empty.sha


def test_files_go_in_and_come_out_the_same(api: HfApi, repo: str, tmp_path: Path) -> None:
    api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id=repo)
    api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="sub/weights one.bin2", repo_id=repo)
    found = api.hf_hub_download(repo, "sub/weights one.bin2", cache_dir=tmp_path)
    assert Path(found).read_bytes() == WEIGHTS
    info = api.model_info(repo, files_metadata=True)
    assert info.card_data is not None and info.card_data.license == "apache-2.0"
    assert info.pipeline_tag == "tabular-classification" and info.library_name == "onnx"
    assert {"oncology", "license:apache-2.0", "language:zh"} <= set(info.tags or ())
    sizes = {each.rfilename: each.size for each in info.siblings or ()}
    assert sizes == {"README.md": len(CARD), "sub/weights one.bin2": len(WEIGHTS)}


def test_a_folder_and_a_large_folder_are_uploaded(api: HfApi, repo: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(6):
        (source / f"part-{number % 2}").mkdir(parents=True, exist_ok=True)
        (source / f"part-{number % 2}" / f"{number}.bin2").write_bytes(WEIGHTS[number:5000])
    (source / "README.md").write_text(CARD)
    api.upload_folder(repo_id=repo, folder_path=source)
    (source / "more.bin2").write_bytes(WEIGHTS[100:])
    upload_large(api, repo, source)
    got = Path(snapshot_download(repo, endpoint=api.endpoint, token=api.token, local_dir=tmp_path / "got"))
    assert {path: (got / path).read_bytes() for path in paths_in(source)} == contents(source)


def upload_large(api: HfApi, repo: str, folder: Path) -> None:
    """In 1.x a function of its own; since 2.x `upload_folder` does it."""
    if hasattr(api, "upload_large_folder"):
        api.upload_large_folder(repo_id=repo, folder_path=folder, repo_type="model", num_workers=2, print_report=False)
    else:
        api.upload_folder(repo_id=repo, folder_path=folder)


def paths_in(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if ".cache" not in path.parts)


def contents(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in paths_in(folder)}


def test_one_commit_adds_copies_and_deletes(api: HfApi, repo: str) -> None:
    first = api.create_commit(
        repo,
        [CommitOperationAdd(f"old/{name}.bin2", io.BytesIO(WEIGHTS[n:9000])) for n, name in enumerate("abc")]
        + [CommitOperationAdd("gone.txt", b"gone\n")],
        commit_message="first",
        commit_description="with a description",
    )
    second = api.create_commit(
        repo,
        [
            CommitOperationCopy("old/a.bin2", "new/copy.bin2"),
            CommitOperationDelete("gone.txt"),
            CommitOperationDelete("old/", is_folder=True),
            CommitOperationAdd("kept.txt", b"kept\n"),
        ],
        commit_message="second",
        parent_commit=first.oid,
    )
    assert api.list_repo_files(repo) == ["kept.txt", "new/copy.bin2"]
    assert [each.commit_id for each in api.list_repo_commits(repo)] == [second.oid, first.oid]
    [_, told] = api.list_repo_commits(repo)
    assert (told.title, told.message, told.authors) == ("first", "with a description", ["donor"])


def test_of_two_commits_on_one_parent_one_is_refused_and_may_try_again(api: HfApi, repo: str) -> None:
    base = api.upload_file(path_or_fileobj=b"one\n", path_in_repo="a.txt", repo_id=repo).oid
    given: Any = {"repo_id": repo, "parent_commit": base}
    api.upload_file(path_or_fileobj=b"two\n", path_in_repo="a.txt", **given)
    with pytest.raises(HfHubHTTPError) as refused:
        api.upload_file(path_or_fileobj=b"three\n", path_in_repo="b.txt", **given)
    assert refused.value.response.status_code == 412
    api.upload_file(path_or_fileobj=b"three\n", path_in_repo="b.txt", repo_id=repo)
    assert api.list_repo_files(repo) == ["a.txt", "b.txt"]


def test_the_same_commit_again_is_the_commit_that_is_there(api: HfApi, repo: str) -> None:
    made = [api.upload_file(path_or_fileobj=b"same\n", path_in_repo="a.txt", repo_id=repo).oid for _ in range(2)]
    made += [api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="b.bin2", repo_id=repo).oid for _ in range(2)]
    assert made[0] == made[1] != made[2] == made[3]
    assert len(api.list_repo_commits(repo)) == 2


def test_branches_and_tags(api: HfApi, repo: str) -> None:
    first = api.upload_file(path_or_fileobj=b"one\n", path_in_repo="a.txt", repo_id=repo).oid
    api.create_branch(repo, branch="feature/x")
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_branch(repo, branch="feature/x")
    assert refused.value.response.status_code == 409
    api.create_branch(repo, branch="feature/x", exist_ok=True)
    api.upload_file(path_or_fileobj=b"two\n", path_in_repo="b.txt", repo_id=repo, revision="feature/x")
    api.create_tag(repo, tag="v1", tag_message="the first", revision=first)
    api.create_tag(repo, tag="v1", exist_ok=True)
    refs = api.list_repo_refs(repo)
    assert {ref.name: ref.ref for ref in (*refs.branches, *refs.tags)} == {
        "main": "refs/heads/main",
        "feature/x": "refs/heads/feature/x",
        "v1": "refs/tags/v1",
    }
    assert refs.tags[0].target_commit == refs.branches[0].target_commit == first
    assert api.list_repo_files(repo, revision="v1") == ["a.txt"]
    assert api.list_repo_files(repo, revision="feature/x") == ["a.txt", "b.txt"]
    api.delete_branch(repo, branch="feature/x")
    api.delete_tag(repo, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_files(repo, revision="feature/x")
    with pytest.raises(HfHubHTTPError):
        api.super_squash_history(repo)


def test_a_tree_is_listed_by_folders_and_as_a_whole(api: HfApi, repo: str) -> None:
    paths = ["a-b/x.txt", "a.txt", "a/b/c.txt", "a/d.txt", "a0", "b.txt"]
    api.create_commit(repo, [CommitOperationAdd(p, p.encode()) for p in paths], commit_message="all")
    assert [each.path for each in api.list_repo_tree(repo)] == ["a-b", "a.txt", "a", "a0", "b.txt"]
    assert [each.path for each in api.list_repo_tree(repo, "a")] == ["a/b", "a/d.txt"]
    assert [each.path for each in api.list_repo_tree(repo, "a/b")] == ["a/b/c.txt"]
    whole = [each.path for each in api.list_repo_tree(repo, recursive=True)]
    assert whole == ["a-b", "a-b/x.txt", "a.txt", "a", "a/b", "a/b/c.txt", "a/d.txt", "a0", "b.txt"]
    api.upload_file(path_or_fileobj=b"changed", path_in_repo="a.txt", repo_id=repo, commit_message="a changed")
    told = {each.path: each.last_commit for each in api.list_repo_tree(repo, expand=True)}
    assert told["a.txt"].title == "a changed" and told["b.txt"].title == "all"
    asked = api.get_paths_info(repo, ["a", "b.txt", "nowhere"])
    assert [each.path for each in asked] == ["a", "b.txt"]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(repo, "nowhere"))


def test_a_tree_and_a_history_of_many_pages_are_whole(api: HfApi, repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gongqi.resources.hub import browsing
    from gongqi.resources.hub.huggingface import trees

    monkeypatch.setattr(trees, "LISTED", 3)
    monkeypatch.setattr(trees, "COMMITS", 2)
    monkeypatch.setattr(browsing, "FOLDERS_AT", 2)
    paths = sorted([*(f"d{n % 3}/f{n}.txt" for n in range(9)), *(f"top{n}.txt" for n in range(5))])
    for n in range(5):
        api.create_commit(repo, [CommitOperationAdd(p, p.encode()) for p in paths[n::5]], commit_message=f"part {n}")
    files = [each.path for each in api.list_repo_tree(repo, recursive=True) if hasattr(each, "size")]
    assert files == paths
    everything = [each.path for each in api.list_repo_tree(repo, recursive=True)]
    assert len(everything) == len(set(everything)) == len(paths) + 3
    assert [each.path for each in api.list_repo_tree(repo)] == ["d0", "d1", "d2", *(f"top{n}.txt" for n in range(5))]
    assert [each.title for each in api.list_repo_commits(repo)] == [f"part {n}" for n in reversed(range(5))]


def test_models_and_datasets_are_found(hub: Any, api: HfApi) -> None:
    for name, kind, license in (
        ("found-a", "model", "mit"),
        ("found-b", "model", "apache-2.0"),
        ("found-c", "dataset", "mit"),
    ):
        api.create_repo(f"south/{name}" if kind == "x" else f"north/{name}", repo_type=kind, private=False)
        card = CARD.replace("apache-2.0", license).encode()
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=f"north/{name}", repo_type=kind)
    anyone = hub.api()
    assert {each.id for each in anyone.list_models(search="found")} == {"north/found-a", "north/found-b"}
    assert {each.id for each in anyone.list_datasets(search="found")} == {"north/found-c"}
    assert [each.id for each in anyone.list_models(search="found", filter="license:mit")] == ["north/found-a"]
    assert {each.id for each in anyone.list_models(filter=["oncology", "license:apache-2.0"], search="found")} == {
        "north/found-b"
    }
    for given in ({"filter": "tabular-classification"}, {"filter": "onnx"}, {"pipeline_tag": "tabular-classification"}):
        assert len(list(anyone.list_models(search="found", **given))) == 2
    assert list(anyone.list_models(author="south")) == [] == list(anyone.list_models(author="nobody-at-all"))
    assert "north/found-a" in {each.id for each in anyone.list_models(author="north")}
    assert len(list(anyone.list_models(search="found", limit=1))) == 1
    with pytest.raises(HfHubHTTPError):
        list(anyone.list_models(sort="likes"))
    said = (
        b"---\nlicense: mit\ndatasets: [north/found-c]\nbase_model: north/found-b\nsize_categories: [n<1K]\n---\n# A\n"
    )
    api.upload_file(path_or_fileobj=said, path_in_repo="README.md", repo_id="north/found-a")
    for tag in ("dataset:north/found-c", "base_model:north/found-b", "size_categories:n<1K"):
        [found] = anyone.list_models(filter=tag)
        assert found.id == "north/found-a" and tag in found.tags
    api.update_repo_settings("north/found-b", gated="manual")
    assert [each.id for each in anyone.list_models(search="found", gated=True)] == ["north/found-b"]
    assert [each.id for each in anyone.list_models(search="found", gated=False)] == ["north/found-a"]
    with pytest.raises(HfHubHTTPError, match="gated"):
        list(anyone.list_models(gated="perhaps"))  # type: ignore[arg-type]
    for given in ({"apps": "vllm"}, {"inference_provider": "all"}, {"num_parameters": "min:1B"}):
        with pytest.raises(HfHubHTTPError, match="filtered"):
            list(anyone.list_models(**given))


def test_a_listing_of_many_pages_is_whole(hub: Any, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    from gongqi.resources.hub.huggingface import repositories

    for n in range(5):
        api.create_repo(f"north/paged-{n}", private=False)
    monkeypatch.setattr(repositories, "LISTED", 2)
    found = [each.id for each in hub.api().list_models(search="paged", author="north")]
    assert found == [f"north/paged-{n}" for n in reversed(range(5))]


def test_a_download_is_kept_by_its_etag_and_goes_on_after_a_cut(
    hub: Any, api: HfApi, repo: str, tmp_path: Path
) -> None:
    api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="w.bin2", repo_id=repo)
    given: Any = {"endpoint": api.endpoint, "token": api.token, "cache_dir": tmp_path}
    first = hf_hub_download(repo, "w.bin2", **given)
    assert hf_hub_download(repo, "w.bin2", **given) == first
    blob = Path(first).resolve()
    partial = blob.with_name(blob.name + ".incomplete")
    partial.write_bytes(WEIGHTS[:400_000])  # as a cut leaves it
    blob.unlink()
    Path(first).unlink()
    assert Path(hf_hub_download(repo, "w.bin2", **given)).read_bytes() == WEIGHTS
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(repo, "absent.bin2", **given)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(repo, "w.bin2", revision="nowhere", **given)
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("north/nothing-here", "w.bin2", **given)


def test_a_snapshot_takes_what_the_patterns_say(api: HfApi, repo: str, tmp_path: Path) -> None:
    paths = ["a.json", "b.bin2", "sub/c.json", "sub/d.txt"]
    api.create_commit(repo, [CommitOperationAdd(p, p.encode()) for p in paths], commit_message="all")
    given: Any = {"endpoint": api.endpoint, "token": api.token}
    got = Path(snapshot_download(repo, allow_patterns="*.json", local_dir=tmp_path / "1", **given))
    assert paths_in(got) == ["a.json", "sub/c.json"]
    got = Path(snapshot_download(repo, ignore_patterns=["sub/*"], local_dir=tmp_path / "2", **given))
    assert paths_in(got) == ["a.json", "b.bin2"]


def test_gated_files_are_asked_for_granted_refused_and_taken_back(
    hub: Any, api: HfApi, repo: str, tmp_path: Path
) -> None:
    api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id=repo)
    api.update_repo_settings(repo, gated="manual")
    reader = hub.api(hub.reader)
    assert reader.model_info(repo).gated == "manual"
    with pytest.raises(GatedRepoError):
        reader.hf_hub_download(repo, "README.md", cache_dir=tmp_path)
    with pytest.raises(GatedRepoError):
        hub.api().hf_hub_download(repo, "README.md", cache_dir=tmp_path)
    with pytest.raises(GatedRepoError):
        reader.auth_check(repo)
    asset = hub.asset(hub.donor, repo)["id"]
    hub.reader.verb("hub:access:request", asset=asset)
    hub.reader.verb("hub:access:request", asset=asset)
    [asked] = api.list_pending_access_requests(repo)
    assert (asked.username, asked.status) == ("reader", "pending")
    with pytest.raises(HfHubHTTPError):
        list(reader.list_pending_access_requests(repo))
    api.accept_access_request(repo, "reader")
    reader.auth_check(repo)
    assert Path(reader.hf_hub_download(repo, "README.md", cache_dir=tmp_path)).read_text() == CARD
    api.cancel_access_request(repo, "reader")
    with pytest.raises(GatedRepoError):
        reader.auth_check(repo)
    api.reject_access_request(repo, "reader", rejection_reason="not now")
    assert [each.username for each in api.list_rejected_access_requests(repo)] == ["reader"]
    with pytest.raises(HfHubHTTPError):
        api.grant_access(repo, "nobody-at-all")
    api.update_repo_settings(repo, gated=False)
    reader.auth_check(repo)


def test_a_gate_that_asks_only_for_a_name_opens_at_once(hub: Any, api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id=repo)
    api.update_repo_settings(repo, gated="auto")
    with pytest.raises(GatedRepoError):
        hub.api(hub.reader).auth_check(repo)
    made = hub.reader.verb("hub:access:request", asset=hub.asset(hub.donor, repo)["id"])
    assert made["state"] == "granted" and made["terms"]
    hub.api(hub.reader).auth_check(repo)


def test_what_is_private_is_not_there_for_others(hub: Any, api: HfApi, tmp_path: Path) -> None:
    api.create_repo("north/hidden", repo_type="dataset", private=True)
    api.upload_file(path_or_fileobj=b"a,b\n", path_in_repo="a.csv", repo_id="north/hidden", repo_type="dataset")
    for outsider in (hub.api(hub.other), hub.api()):
        for ask in (outsider.dataset_info, outsider.auth_check, outsider.list_repo_refs):
            with pytest.raises(RepositoryNotFoundError):
                ask("north/hidden", **({} if ask == outsider.dataset_info else {"repo_type": "dataset"}))
        with pytest.raises(RepositoryNotFoundError):
            outsider.hf_hub_download("north/hidden", "a.csv", repo_type="dataset", cache_dir=tmp_path)
        assert "north/hidden" not in {each.id for each in outsider.list_datasets()}
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("north/hidden")  # it is a dataset
    api.update_repo_settings("north/hidden", repo_type="dataset", private=False)
    assert hub.api().dataset_info("north/hidden").id == "north/hidden"


def test_a_moved_repository_is_found_by_its_old_name_and_takes_commits_by_its_new(
    hub: Any, api: HfApi, repo: str, tmp_path: Path
) -> None:
    api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="w.bin2", repo_id=repo)
    api.move_repo(from_id=repo, to_id="north/moved-here")
    assert api.model_info(repo).id == "north/moved-here"
    assert Path(api.hf_hub_download(repo, "w.bin2", cache_dir=tmp_path)).read_bytes() == WEIGHTS
    assert api.list_repo_files(repo) == ["w.bin2"]
    with pytest.raises(HfHubHTTPError, match="north/moved-here"):
        api.upload_file(path_or_fileobj=b"late\n", path_in_repo="late.txt", repo_id=repo)
    api.upload_file(path_or_fileobj=b"late\n", path_in_repo="late.txt", repo_id="north/moved-here")
    with pytest.raises(HfHubHTTPError):
        api.move_repo(from_id="north/moved-here", to_id="south/taken")
    api.create_repo(repo)  # the old name may be taken again
    assert api.model_info(repo).id == repo


def test_a_deleted_repository_is_gone_and_its_name_is_free(hub: Any, api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=b"a\n", path_in_repo="a.txt", repo_id=repo)
    with pytest.raises(HfHubHTTPError):
        hub.api(hub.other).delete_repo(repo)
    api.delete_repo(repo)
    with pytest.raises(RepositoryNotFoundError, match="deleted"):
        api.model_info(repo)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(repo)
    api.delete_repo(repo, missing_ok=True)
    api.create_repo(repo)
    assert api.list_repo_files(repo) == []


def test_a_repository_is_read_as_a_file_system(api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="sub/w.bin2", repo_id=repo)
    api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id=repo)
    files = HfFileSystem(endpoint=api.endpoint, token=api.token, skip_instance_cache=True)
    assert files.ls(repo, detail=False) == [f"{repo}/README.md", f"{repo}/sub"]
    assert files.glob(f"{repo}/**/*.bin2") == [f"{repo}/sub/w.bin2"]
    assert files.isdir(f"{repo}/sub") and not files.exists(f"{repo}/absent")
    assert files.info(f"{repo}/sub/w.bin2")["size"] == len(WEIGHTS)
    with files.open(f"{repo}/sub/w.bin2", "rb", block_size=1 << 16) as file:
        file.seek(500_000)
        assert file.read(1000) == WEIGHTS[500_000:501_000]
    with files.open(f"{repo}/made.txt", "w") as file:
        file.write("by the file system\n")
    files.rm(f"{repo}/sub/w.bin2")
    assert sorted(api.list_repo_files(repo)) == ["README.md", "made.txt"]


def test_what_is_there_is_told_from_what_is_not(api: HfApi, repo: str) -> None:
    oid = api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id=repo).oid
    assert api.repo_exists(repo) and not api.repo_exists("north/nothing-here")
    assert api.revision_exists(repo, "main") and not api.revision_exists(repo, "nowhere")
    assert api.file_exists(repo, "README.md") and not api.file_exists(repo, "absent.md")
    asked = api.model_info(repo, expand=["downloadsAllTime", "cardData", "sha", "siblings"])
    assert (asked.downloads_all_time, asked.sha) == (0, oid) and asked.card_data is not None
    [listed] = api.list_models(search=repo.split("/")[1], full=True, limit=1)
    assert listed.id == repo and listed.sha == oid and listed.downloads == 0
