"""What this Verda has on offer: instance types, images, locations, kinds of volumes. The prices are made up."""

from __future__ import annotations

import functools
import uuid
from dataclasses import dataclass
from typing import Any

from tests.emulators.verda.problem import Problem

Body = dict[str, Any]
EUR_PER_USD = 0.86
NEW = (
    "ubuntu-24.04-cuda-13.0-open-docker",
    "ubuntu-24.04-cuda-12.8-open-docker",
    "ubuntu-24.04-cuda-12.8-open",
)
OLD = ("ubuntu-22.04-cuda-12.0-docker", "ubuntu-22.04-cuda-12.0")
PLAIN = ("ubuntu-24.04", "ubuntu-22.04")
CATEGORIES = {"docker": "docker", "jupyter": "jupyter"}
LOCATIONS = {"FIN-01": "Finland 1", "FIN-02": "Finland 2", "FIN-03": "Finland 3", "ICE-01": "Iceland 1"}
MONTH_S = 730 * 3600.0
GB_MONTH = 0.2


@dataclass(frozen=True)
class Type:
    """An instance type; prices are for the whole machine, in USD an hour, as the API's texts."""

    name: str
    model: str  # H100
    gpu: str  # H100 SXM5 80GB
    gpus: int
    gpu_gb: int  # of one GPU
    cores: int
    memory_gb: int
    price: str
    spot: str
    images: tuple[str, ...] = NEW + PLAIN
    homes: tuple[str, ...] = ("FIN-01", "FIN-02", "FIN-03", "ICE-01")
    cuda: str = "9.0"

    def price_per_hour(self, is_spot: bool) -> float:
        return float(self.spot if is_spot else self.price)


TYPES = {
    one.name: one
    for one in (
        Type("CPU.4V.16G", "CPU", "", 0, 0, 4, 16, "0.0279", "0.0101", PLAIN + NEW[:2]),
        Type("1V100.6V", "Tesla V100", "Tesla V100 16GB", 1, 16, 6, 23, "0.14", "0.05", OLD, cuda="7.0"),
        Type("1A6000.10V", "RTX A6000", "RTX A6000 48GB", 1, 48, 10, 60, "0.49", "0.17", OLD, cuda="8.6"),
        Type("1L40S.20V", "L40S", "L40S 48GB", 1, 48, 20, 60, "0.91", "0.32", cuda="8.9"),
        Type("1A100.22V", "A100", "A100 SXM4 80GB", 1, 80, 22, 120, "1.29", "0.45", cuda="8.0"),
        Type("1H100.80S.30V", "H100", "H100 SXM5 80GB", 1, 80, 30, 120, "2.19", "0.77"),
        Type("2H100.80S.60V", "H100", "H100 SXM5 80GB", 2, 80, 60, 240, "4.38", "1.54"),
        Type("8H100.80S.176V", "H100", "H100 SXM5 80GB", 8, 80, 176, 1480, "17.52", "6.16"),
        Type("1H200.141S.44V", "H200", "H200 SXM5 141GB", 1, 141, 44, 185, "2.99", "1.05", homes=("FIN-02",)),
    )
}
IMAGES = (*NEW, *OLD, *PLAIN, "ubuntu-24.04-cuda-12.8-open-jupyter")


def type_of(name: object) -> Type:
    if name not in TYPES:
        raise Problem(404, "Invalid instance type")
    return TYPES[str(name)]


def instance_types(currency: str) -> list[Body]:
    """GET /instance-types."""
    return [_type(one, currency) for one in TYPES.values()]


def images(instance_type: str) -> list[Body]:
    """GET /images: all, or those that fit a type."""
    names = type_of(instance_type).images if instance_type else IMAGES
    return [_image(name) for name in names]


def image_named(name_or_id: str) -> str:
    """An image's type by its type or its id; "" if there is none."""
    return next((name for name in IMAGES if name_or_id in (name, _id(name))), "")


def locations() -> list[Body]:
    """GET /locations."""
    return [
        {"code": code, "name": name, "country_code": code[:2].replace("IC", "IS")}
        for code, name in LOCATIONS.items()
    ]


def volume_types(currency: str) -> list[Body]:
    """GET /volume-types."""
    price = GB_MONTH * (EUR_PER_USD if currency == "eur" else 1.0)
    paid = {"price_per_month_per_gb": price, "cps_per_gb": price / MONTH_S, "currency": currency}
    speed = {"burst_bandwidth": 2500, "continuous_bandwidth": 2000, "internal_network_speed": 50}
    return [
        {
            "type": kind,
            "price": paid,
            "is_shared_fs": kind == "NVMe_Shared",
            **speed,
            "iops": "100k",
            "throughput_gbps": 4,
        }
        for kind in ("NVMe", "NVMe_Shared")
    ]


def hardware(one: Type) -> Body:
    """The part that instances and instance types have in common."""
    return {
        "cpu": {"description": f"{one.cores} CPU", "number_of_cores": one.cores},
        "gpu": {"description": f"{one.gpus}x {one.gpu}" if one.gpus else "", "number_of_gpus": one.gpus},
        "gpu_memory": _size(one.gpus * one.gpu_gb, "GPU RAM"),
        "memory": _size(one.memory_gb, "RAM"),
        "storage": {"description": "dynamic"},
    }


def _type(one: Type, currency: str) -> Body:
    factor = EUR_PER_USD if currency == "eur" else 1.0
    price, spot = (f"{float(text) * factor:g}" for text in (one.price, one.spot))
    return {
        "id": _id(one.name),
        "instance_type": one.name,
        "model": one.model,
        "name": one.gpu or one.name,
        "display_name": f"NVIDIA {one.gpu}" if one.gpus else "AMD EPYC",
        "manufacturer": "NVIDIA" if one.gpus else "AMD",
        "description": "Dedicated Hardware Instance",
        "best_for": ["Small ML models"],
        "p2p": "",
        "price_per_hour": price,
        "spot_price": spot,
        "max_dynamic_price": price,
        "currency": currency,
        "supported_os": list(one.images),
        "a_field_of_tomorrow": {"must": "be ignored"},
        **hardware(one),
    }


def _image(name: str) -> Body:
    category = next((kind for end, kind in CATEGORIES.items() if name.endswith(end)), "ubuntu")
    return {
        "id": _id(name),
        "image_type": name,
        "name": os_name(name),
        "is_default": name == NEW[0],
        "details": [os_name(name), *(["Docker"] if category == "docker" else [])],
        "category": category,
        "is_cluster": False,
    }


def os_name(image: str) -> str:
    return "Ubuntu " + image.split("-")[1] if image.startswith("ubuntu-") else image


def _size(gigabytes: int, kind: str) -> Body:
    return {"description": f"{gigabytes}GB {kind}", "size_in_gigabytes": gigabytes}


@functools.cache
def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
