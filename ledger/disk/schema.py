"""The schema of the database, as ordered migrations over `PRAGMA user_version`.

Each migration is one transaction that ends by setting the version, so a crash leaves the old schema or the new one.
The texts are literal and not derived from the records: version 1 must always create the same schema, even when the
records change; a test compares the newest schema with the records. Indexes are created once, with their table.

Not covered: going back to an older version.
"""

from typing import Any, Final

_BLANKS: Final = (
    "char(9,10,11,12,13,28,29,30,31,32,133,160,5760,8192,8193,8194,8195,8196,8197,8198,8199,8200,8201,8202,"
    "8232,8233,8239,8287,12288)"
)
"""Exactly the characters that Python's str.strip() removes, so that a key that passes the CHECK equals memory's key."""

_VERSION_1: Final = (
    f"""
    CREATE TABLE tasks (
      insertion INTEGER PRIMARY KEY,
      task_id TEXT NOT NULL UNIQUE CHECK (task_id <> ''),
      runtime TEXT NOT NULL CHECK (runtime IN ('subagent', 'acp', 'cli', 'cron')),
      requester_session_key TEXT NOT NULL,
      owner_key TEXT NOT NULL CHECK (owner_key = trim(owner_key, {_BLANKS})),
      scope_kind TEXT NOT NULL CHECK (scope_kind IN ('session', 'system')),
      task TEXT NOT NULL,
      status TEXT NOT NULL CHECK (
        status IN ('queued', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'lost')
      ),
      delivery_status TEXT NOT NULL CHECK (
        delivery_status IN (
          'pending', 'delivered', 'session_queued', 'failed', 'parent_missing', 'not_applicable'
        )
      ),
      notify_policy TEXT NOT NULL CHECK (notify_policy IN ('done_only', 'state_changes', 'silent')),
      created_at INTEGER NOT NULL,
      task_kind TEXT,
      source_id TEXT,
      child_session_key TEXT,
      parent_flow_id TEXT,
      parent_task_id TEXT,
      agent_id TEXT,
      requester_agent_id TEXT,
      run_id TEXT CHECK (run_id = trim(run_id, {_BLANKS})),
      label TEXT,
      started_at INTEGER,
      ended_at INTEGER,
      last_event_at INTEGER,
      cleanup_after INTEGER,
      error TEXT,
      progress_summary TEXT,
      terminal_summary TEXT,
      terminal_outcome TEXT CHECK (terminal_outcome IN ('succeeded', 'blocked'))
    )
    """,
    "CREATE INDEX tasks_by_run ON tasks (run_id) WHERE run_id IS NOT NULL",
    "CREATE INDEX tasks_by_owner ON tasks (owner_key)",
    """
    CREATE TABLE task_delivery_state (
      insertion INTEGER PRIMARY KEY,
      task_id TEXT NOT NULL UNIQUE REFERENCES tasks (task_id),
      requester_origin TEXT,
      last_notified_event_at INTEGER
    )
    """,
    # One row, which a fencing commit increments; see ledger.disk.transaction.
    "CREATE TABLE ledger_fence (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL)",
    "INSERT INTO ledger_fence (id, count) VALUES (1, 0)",
)

_VERSION_2: Final = (
    # No reference to the task: the history of a run outlives the task, which is pruned after some days.
    f"""
    CREATE TABLE task_history (
      insertion INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE CHECK (id <> '' AND id = trim(id, {_BLANKS})),
      task_id TEXT NOT NULL CHECK (task_id <> ''),
      worker_id TEXT NOT NULL CHECK (worker_id <> ''),
      status TEXT NOT NULL CHECK (
        status IN ('running', 'success', 'failure', 'cancelled', 'interrupted', 'aborted_no_skill')
      ),
      started_at INTEGER NOT NULL,
      repo TEXT,
      issue_number INTEGER,
      user TEXT,
      agent TEXT,
      agent_type TEXT,
      model TEXT,
      provider TEXT,
      finished_at INTEGER CHECK ((finished_at IS NULL) = (status = 'running')),
      cost_usd REAL,
      tokens_in INTEGER,
      tokens_out INTEGER,
      turns INTEGER,
      artifacts TEXT,
      reason TEXT
    )
    """,
    # Boot recovery looks for the few running rows of a history that only grows.
    "CREATE INDEX task_history_running ON task_history (status) WHERE status = 'running'",
    "CREATE INDEX task_history_by_task ON task_history (task_id)",
    """
    CREATE TABLE agent_sessions (
      insertion INTEGER PRIMARY KEY,
      session_id TEXT NOT NULL UNIQUE CHECK (session_id <> ''),
      run_id TEXT NOT NULL REFERENCES task_history (id),
      valid INTEGER NOT NULL CHECK (valid IN (0, 1)),
      invalidated_at INTEGER CHECK ((invalidated_at IS NULL) = (valid = 1)),
      reason TEXT
    )
    """,
    "CREATE INDEX agent_sessions_by_run ON agent_sessions (run_id)",
)

_VERSION_3: Final = (
    """
    CREATE TABLE message_outbox (
      insertion INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE CHECK (id <> ''),
      turn_id TEXT,
      channel TEXT NOT NULL CHECK (channel <> ''),
      account_id TEXT,
      target TEXT NOT NULL CHECK (target <> ''),
      dispatch_kind TEXT,
      payload TEXT NOT NULL,
      queued_at INTEGER NOT NULL,
      status TEXT NOT NULL CHECK (
        status IN ('queued', 'failed_retryable', 'delivered', 'failed_terminal', 'expired')
      ),
      attempt_count INTEGER NOT NULL CHECK (attempt_count >= 0),
      next_attempt_at INTEGER,
      last_attempt_at INTEGER,
      last_error TEXT,
      error_class TEXT CHECK (error_class IN ('transient', 'permanent')),
      delivered_at INTEGER,
      completed_at INTEGER,
      terminal_reason TEXT,
      idempotency_key TEXT,
      leased_by TEXT
    )
    """,
    "CREATE UNIQUE INDEX message_outbox_by_key ON message_outbox (idempotency_key) WHERE idempotency_key IS NOT NULL",
    # A recovery pass looks for the few pending rows among many that have ended, pruning for the ended ones.
    """
    CREATE INDEX message_outbox_pending ON message_outbox (queued_at)
    WHERE status IN ('queued', 'failed_retryable')
    """,
    "CREATE INDEX message_outbox_ended ON message_outbox (completed_at) WHERE completed_at IS NOT NULL",
    """
    CREATE TABLE outbox_imports (
      insertion INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE CHECK (id <> ''),
      imported_at INTEGER NOT NULL,
      fingerprint TEXT NOT NULL
    )
    """,
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_VERSION_1, _VERSION_2, _VERSION_3)
"""Statement texts; the migration at index n leads from version n to version n + 1."""

SCHEMA_VERSION: Final = len(MIGRATIONS)

FENCE: Final = "INSERT INTO ledger_fence (id, count) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = count + 1"
"""It writes also where somebody has deleted the row: a commit that writes nothing secures nothing."""


def read_version(connection: Any) -> int:
    """The schema version of an open database; 0 for an empty one."""
    return int(connection.execute("PRAGMA user_version").fetchall()[0][0])


def migrate(connection: Any) -> int:
    """Migrate an open database to `SCHEMA_VERSION`; returns the version found.

    Each step reads the version again inside its own transaction, since another process may have been faster. A
    driver's exception leaves that step undone; the caller rolls back the open transaction.
    """
    found = version = read_version(connection)
    while version < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        version = read_version(connection)
        if version < SCHEMA_VERSION:
            for statement in MIGRATIONS[version]:
                connection.execute(statement)
            version += 1
            connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    return found
