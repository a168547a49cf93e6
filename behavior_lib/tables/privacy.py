"""Which key a batch's pseudonyms were made under, and who was forgotten."""

from behavior_lib.tables.spec import STRING, TIMESTAMP, Column, TableSpec

PSEUDONYM_KEYS = TableSpec(
    name="pseudonym_keys",
    grain="one batch whose user ids were taken as pseudonyms",
    key=("source", "batch_id"),
    append_only=True,
    columns=(
        Column("source", STRING, "name of the source"),
        Column("batch_id", STRING, "the batch"),
        Column("key_version", STRING, "version of the key: v1, v2, …; a rebuild of the batch uses the same"),
        Column("fingerprint", STRING, "16 hex digits that tell the key from another one and nothing of it"),
    ),
)

FORGOTTEN_USERS = TableSpec(
    name="forgotten_users",
    grain="one user who was forgotten, and whose rows ingest refuses",
    key=("user_hash",),
    columns=(
        Column("user_hash", STRING, "version of the key, and HMAC-SHA-256 of the word forgotten and the user id"),
        Column("forgotten_at", TIMESTAMP, "when the erasure began, UTC"),
        Column("run_id", STRING, "pipeline run that began it"),
        Column("erased_at", TIMESTAMP, "when nothing was left, UTC; null while unfinished", nullable=True),
    ),
)
