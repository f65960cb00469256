<?php
// php notes.php [memory-first]
require __DIR__ . '/tornpage.php';

class Notes {
    private array $notes = [];
    private SQLite3 $db;

    function __construct(private bool $memoryFirst) {}

    function open(array $where): void {
        $this->db = new SQLite3("{$where['directory']}/notes.sqlite");
        try {
            $this->db->enableExceptions(true);
            $this->db->busyTimeout(1000);
            $this->db->exec("PRAGMA journal_mode = {$where['journal_mode']}; PRAGMA synchronous = {$where['synchronous']}");
            $this->db->exec('CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT)');
            $rows = $this->db->query('SELECT name, text FROM notes');
            for ($this->notes = []; $row = $rows->fetchArray(SQLITE3_NUM);) $this->notes[$row[0]] = $row[1];
            $rows->finalize();
        } catch (Throwable $error) {
            $this->db->close();
            throw $error;
        }
    }

    function call(string $action, array $args, int $nowMs): void {
        if ($action === 'remove' && !isset($this->notes[$args['name']])) throw new Refused('no such note');
        if ($this->memoryFirst) $this->remember($action, $args);
        if ($action === 'put') $this->run('INSERT OR REPLACE INTO notes VALUES (?, ?)', $args['name'], $args['text']);
        else $this->run('DELETE FROM notes WHERE name = ?', $args['name']);
        $this->remember($action, $args);
    }

    private function run(string $sql, string ...$values): void {
        $statement = $this->db->prepare($sql);
        try {
            foreach ($values as $index => $value) $statement->bindValue($index + 1, $value);
            $statement->execute()->finalize();
        } finally {
            $statement->close();
        }
    }

    private function remember(string $action, array $args): void {
        if ($action === 'put') $this->notes[$args['name']] = $args['text'];
        else unset($this->notes[$args['name']]);
    }

    function view(): array { return $this->notes; }
    function close(): void { $this->db->close(); }
}

tornpage_serve([
    'title' => 'notes in PHP',
    'database' => 'notes.sqlite',
    'calls' => [
        ['name' => 'put', 'args' => ['name' => 'milk', 'text' => 'buy']],
        ['name' => 'put', 'args' => ['name' => 'milk', 'text' => 'bought']],
        ['name' => 'remove', 'args' => ['name' => 'milk']],
    ],
    'beat' => ['name' => 'put', 'args' => ['name' => 'heartbeat', 'text' => 'alive']],
    'rows' => ['SELECT name, text FROM notes'],
], new Notes(($argv[1] ?? '') === 'memory-first'));
