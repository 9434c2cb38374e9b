"""The labels of every noise model are the same bytes as ever, whatever classes and files are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from noisybench.config.registry import list_entries
from noisybench.data.traces.builtin_programs import PROGRAMS
from tests.compare_training_present import label_case

HASHES = {
    "affine_shift": "c32212aad4ec0f3cadbb947892a2e9f6deed0161a9a0d1a35ff3921e59b1675b",
    "annotators": "14ac4275a27888ffd4b40463dc1b9dfb03276c7103fd5120f22fe387e8f27684",
    "asymmetric": "c5db0e600c9434e204cd42085fc5cb3688a9968e59f21bd8cdb158096ae2172c",
    "asymmetric_index_block5": "28fc32d15d03522132abd747471621e42185bbec55c94a4b509e5aa8cb011fad",
    "asymmetric_superclass_uniform": "963b454f83fe11f471bd6217f21216530010c8368233de0a12b4b0e81b44190c",
    "class_swap": "fde703490c8c922899980ad434334a498d7b302cf091e6950bcfb824f02c9d53",
    "clean": "48d82858561f3ebc6b7196768009aedcfde6976e13a3dff7b9d5778037d1b945",
    "coco_n": "da24f1007a8d570ed7e6b027fed52155a0f718d5b354badd7e9873bd10456e38",
    "cot_dynamic": "1a2bb590c1daf816e87699d007081a1c42f65c5c3046513e9b6a7192047c032c",
    "cot_static": "abecf7dfb91ead9b2743b12656c39b7fb3ce850dc517538683b1d535f48da574",
    "cot_thoughts": "1427425003801e5db3398f46519cfd7af5031ee71e20e4b5ee9f921cbaa8215b",
    "elastic": "40566c4624640fdf0f554bfa450bda52a8720ba7a3ce496f3c2d13c8abdf475d",
    "from_file": "b2f942366b1d4883dbc18e0755976b67def3329a4f97473809c39a945ddc5f09",
    "from_folder": "9d9392713a5c25c529de562fa587bae9a5c92f35888d8948d848dd69290bfebf",
    "human": "9ac0f0ea0c77e5e1eb144d444769440de41d20e78ef686f9f9b1c8dbac0f3f5d",
    "inclusion": "117e1731203c115e8e5cfaaf3b864c4a7cb611a61bf916c6cf08874305393891",
    "instance_dependent": "fbb0461ffcdd7c3048266d1d2d07c01a66c1159aa3b492facf36b85709898d91",
    "markov_boundary": "7662810d90f4de7b5c9f7946f3f89012cdf88701623069c6841e9b8d3d9146a2",
    "morph_disc": "6e188fa8b97adfcc2d4eeb16e4e6868680e4468860504abe7c93f4ee748f0e95",
    "morph_distance": "1a5d1a28a84f87d1b09244dcebfdc36d00c25eca5f47d5a697e224346b5d0f33",
    "object_noise": "5eeaff329521842a990b060d209870e62070b1d49298607e56b4ec5c31084382",
    "morph_scaled": "598e3435499fc331f35d794ee916688f1f4e60cc190bca78f078fc506dcc860d",
    "real_world": "93a4584d082e2155da22292ec709673dfc66688cfba7fdbc370de854160fc7a8",
    "omission": "ace6694f317141318209443f8b16f63f18332ccec067ff5431a341b89b3eaa9f",
    "pair_flip": "d3002a1c4ba49d9ccda50310e7ffc65c4c02704f8dd1061b33dbdd8b3ac8e73b",
    "pixel_flip": "46712aa66f17cd25564124773f44c88da5be176f7e41f34a5da19d8e0710c9e4",
    "polygon": "8dcfc676bc08468f9a112472799c5e2597f4e2028001c04d5b389ba7239f8247",
    "pseudo_labels": "6c3bd0bee5dffe6599728f65dd642b1d596a22322a5608876c1453b256729d4b",
    "step_annotator": "be0d8f6a83ef914580935bbb5bf048222ad7aaca8cab7d4d5c88d719b4c53ca7",
    "step_dynamic": "7ed16f799265efe7000dc58471250499de45467f4581ec6b80994b1785da3fc5",
    "symmetric_exclusive": "f9b66eb0526289022c7fb8645bebc85e2684b6ec7c3b82520a39a02c3a8e8b45",
    "symmetric_inclusive": "d8663151aac3d75d717667ece477c650a890024258e94c16e05ded18bcbcdb45",
    "transition_matrix": "5e66c7e2de6bb520a56ab915c2e1ef4016b0e701d21f1042ff480c53497b5e1d",
    "vertex_jitter": "58823463421710ba758f0174d946a64209ec57c29205f87bfc9969b164171a0f",
    "web": "33387c058bce93f9bdf5982f04382dfe691b977c998b687bf0903b6ed63cf0e1",
}
"""SHA-256 over observed targets, replaced images with their rows, and events, of each noise model's example."""


def test_every_noise_model_is_pinned() -> None:
    assert sorted(HASHES) == sorted(list_entries("noise_models"))


@pytest.mark.parametrize("name", list_entries("noise_models"))
def test_labels_stay_the_same(name: str, tmp_path: Path) -> None:
    assert label_case(list_entries("noise_models")[name], tmp_path) == {"labels": HASHES[name]}


def test_stream_names_differ() -> None:
    models = [entry.load_class() for entry in list_entries("noise_models").values()]
    for classes in (models, list(PROGRAMS.values())):
        assert all("stream_name" in vars(cls) for cls in classes), "a name of its own, not that of its base class"
        assert len({cls.stream_name for cls in classes}) == len(classes)
