"""Stands for the module of this name that Kaggle puts on every session's path: secrets by their label."""

import json
import os
import urllib.error
import urllib.request


class CredentialError(Exception):
    """There is no token for secrets in this session."""


class BackendError(Exception):
    """The service answered with an error: no such secret is attached."""


class ValidationError(Exception):
    """The label is empty."""


class UserSecretsClient:
    def __init__(self) -> None:
        self._token = os.environ.get("KAGGLE_USER_SECRETS_TOKEN")
        if not self._token:
            raise CredentialError("no secrets in this session")

    def get_secret(self, label: str) -> str:
        if not label:
            raise ValidationError("Label must be non-empty.")
        request = urllib.request.Request(
            os.environ["KAGGLE_URL_BASE"] + "/requests/GetUserSecretByLabelRequest",
            json.dumps({"Label": label}).encode(),
            {"Content-Type": "application/json", "X-Kaggle-Authorization": f"Bearer {self._token}"},
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=40
            ) as reply:
                answer = json.load(reply)
        except urllib.error.URLError as error:
            raise ConnectionError("Connection error trying to communicate with service.") from error
        if not answer.get("wasSuccessful"):
            raise BackendError(f"Unexpected response from the service: {answer}")
        return str(answer["result"]["Secret"])
