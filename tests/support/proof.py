"""A client was served when the keys that arrived were issued by STS and the signature verifies.

Source: sdk-client-contract C-88.
"""

from broker.sandbox import Call, Sandbox


class Arrivals:
    """What clients sent to the sandbox from here on; the broker's own exchanges are left out."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._aws = sandbox.aws
        self._calls_before = len(self._aws.calls)
        self._verified_before = len(self._aws.verified_identities)
        self._issued_before = len(self._aws.issued)

    @property
    def calls(self) -> list[Call]:
        after = self._aws.calls[self._calls_before :]
        return [call for call in after if call.operation != "AssumeRoleWithWebIdentity"]

    def served(self, operation: str) -> str:
        """Return the one access key id that *operation* was called with.

        Raises:
            AssertionError: Not every call was signed, properly, with one set that STS issued.
        """
        return self._served(operation, issued_since=0)

    def served_anew(self, operation: str) -> str:
        """As `served`, by a set that STS issued since this began.

        Raises:
            AssertionError: As above; or the set is older.
        """
        return self._served(operation, issued_since=self._issued_before)

    def _served(self, operation: str, *, issued_since: int) -> str:
        calls = self.calls
        verified = self._aws.verified_identities[self._verified_before :]
        proven = [(one.operation, one.access_key_id, one.session_token) for one in verified]
        arrived = [(call.operation, call.access_key_id, call.session_token) for call in calls]
        keys = {(key_id, session_token) for _, key_id, session_token in arrived}
        issued = self._aws.issued[issued_since:]
        assert operation in [call.operation for call in calls], calls
        assert sorted(map(str, arrived)) == sorted(map(str, proven)), calls
        assert keys <= {(one.access_key_id, one.session_token) for one in issued}, calls
        ((key_id, _),) = keys
        assert key_id is not None
        return key_id
