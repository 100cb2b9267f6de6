"""What the answers must look like: the fields of Verda's public API document (OpenAPI 3.1, September 2026)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

STATUSES = "new ordered provisioning validating running offline deleting discontinued error no_capacity"
VOLUME_STATUSES = (
    "ordered attached attaching detached deleted cloning detaching deleting restoring created exported"
)
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "price": lambda value: isinstance(value, str) and float(value) >= 0,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "yes": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "uuid": lambda value: isinstance(value, str) and UUID.fullmatch(value) is not None,
    "uuids": lambda value: isinstance(value, list) and all(UUID.fullmatch(one) for one in value),
    "texts": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    "objects": lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
    "time": lambda value: isinstance(value, str) and TIME.fullmatch(value) is not None,
    "status": lambda value: value in (*STATUSES.split(), "installation_failed", "notfound", "unknown"),
    "volume-status": lambda value: value in (*VOLUME_STATUSES.split(), "canceled", "canceling"),
    "currency": lambda value: value in ("usd", "eur"),
}
HARDWARE = "cpu:object gpu:object gpu_memory:object memory:object storage:object"
VOLUME = (
    "id:uuid instance_id:uuid|null instances:objects name:text created_at:time status:volume-status size:number"
    " is_os_volume:yes target:text|null type:text location:text ssh_key_ids:uuids contract:text"
    " base_hourly_cost:number monthly_price:number currency:currency tags:objects created_by_user_id?:uuid"
)
# name:kind, name:kind|null, name?:kind where it may be missing
SHAPES = {
    "token": "access_token:text token_type:text expires_in:number refresh_token:text scope:text",
    "error": "code:text message:text",
    "balance": "amount:number currency:currency",
    "image": "id:uuid image_type:text name:text is_default:yes details:texts category:text is_cluster:yes",
    "instance type": "best_for:texts description:text id:uuid instance_type:text model:text name:text p2p:text"
    " price_per_hour:price spot_price:price max_dynamic_price:price dynamic_price?:price serverless_price?:price"
    " serverless_spot_price?:price currency:currency manufacturer:text display_name:text supported_os:texts"
    " deploy_warning?:text " + HARDWARE,
    "availability": "location_code:text availabilities:texts",
    "location": "code:text name:text country_code:text",
    "volume type": "type:text price:object is_shared_fs:yes burst_bandwidth:number continuous_bandwidth:number"
    " internal_network_speed:number iops:text throughput_gbps:number",
    "key": "id:uuid name:text key:text fingerprint:text|null created_by_user_id:uuid|null",
    "script": "id:uuid name:text script:text created_at:time",
    "tag": "id:text key:text value:text",
    "instance": "id:uuid ip:text|null status:status created_at:time hostname:text description:text tags:objects"
    " location:text price_per_hour:number is_spot:yes instance_type:text image:text os_name:text"
    " startup_script_id:uuid|null ssh_key_ids:uuids os_volume_id:uuid|null jupyter_token:text|null contract:text"
    " pricing:text volume_ids:uuids created_by_user_id?:uuid " + HARDWARE,
    "action": "instanceId:uuid action:text status:text error?:text statusCode?:number",
    "volume": VOLUME + " pseudo_path:text|null create_directory_command:text|null mount_command:text|null"
    " filesystem_to_fstab_command:text|null long_term:object|null",
    "deleted volume": VOLUME + " deleted_at:time is_permanently_deleted:yes",
    "event": "id:text object_id:uuid object_type:text action_code:text actor_id?:uuid|null actor_email?:text|null"
    " project_id:uuid timestamp:time location_code:text request_origin?:text error_message?:text"
    " properties?:object",
}
FUTURE = "a_field_of_tomorrow"  # the document says that such may come at any time


def complaints(name: str, value: Any) -> list[str]:
    """What is wrong with an answer, or with each of a list of them."""
    if isinstance(value, list):
        return [text for one in value for text in complaints(name, one)]
    wanted = dict(word.split(":") for word in SHAPES[name].split())
    names = {key.rstrip("?") for key in wanted}
    wrong = [f"{name}: {key} is not in the document" for key in value if key not in names and key != FUTURE]
    for key, kind in wanted.items():
        plain, _, null = kind.partition("|")
        if key.rstrip("?") not in value:
            wrong += [] if key.endswith("?") else [f"{name}: {key} is missing"]
        elif not (null and value[key.rstrip("?")] is None) and not KINDS[plain](value[key.rstrip("?")]):
            wrong.append(f"{name}: {key} is no {plain}: {value[key.rstrip('?')]!r}")
    return wrong
