<?php
// Symfony's cache in a SQLite file, `PdoAdapter`: php symfony_cache.php, with Debian's php-symfony-cache and php-sqlite3.
// Elsewhere `tornpage adapter php` copies it beside this file.
require __DIR__ . '/../../../scenarios/targets/process/adapters/php/tornpage.php';
require '/usr/share/php/Symfony/Component/Cache/autoload.php';

use Symfony\Component\Cache\Adapter\PdoAdapter;

class Cache {
    private ?PdoAdapter $pool = null;
    private ?PDO $connection = null;

    function open(array $where): void {
        $this->connection = new PDO("sqlite:{$where['directory']}/cache.sqlite");
        $this->connection->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
        $this->connection->exec("PRAGMA journal_mode = {$where['journal_mode']}; PRAGMA synchronous = {$where['synchronous']}");
        $this->pool = new PdoAdapter($this->connection);
        // By itself it makes its table when it first writes.
        $there = $this->connection->query("SELECT 1 FROM sqlite_master WHERE name = 'cache_items'")->fetchColumn();
        if (!$there) $this->pool->createTable();
    }

    function call(string $action, array $args, int $nowMs): void {
        $done = match ($action) {
            'save' => $this->pool->save($this->pool->getItem($args['key'])->set($args['value'])),
            'delete' => $this->pool->deleteItem($args['key']),
            'clear' => $this->pool->clear(),
        };
        // It logs what went wrong, and says false.
        if (!$done) throw new RuntimeException("$action says false");
    }

    function view(): array {
        $seen = [];
        foreach ($this->pool->getItems(['a', 'b', 'heartbeat']) as $key => $item) {
            if ($item->isHit()) $seen[$key] = strtoupper(bin2hex(serialize($item->get())));
        }
        return $seen;
    }

    function close(): void {
        $this->pool = null;
        $this->connection = null;
    }
}

tornpage_serve([
    'title' => 'Symfony: PdoAdapter',
    'database' => 'cache.sqlite',
    'configurations' => ['delete/FULL'],
    'calls' => [
        ['name' => 'save', 'args' => ['key' => 'a', 'value' => 'one']],
        ['name' => 'save', 'args' => ['key' => 'b', 'value' => str_repeat('x', 6000)]],
        ['name' => 'save', 'args' => ['key' => 'a', 'value' => 'two']],
        ['name' => 'delete', 'args' => ['key' => 'b']],
        ['name' => 'clear'],
    ],
    'beat' => ['name' => 'save', 'args' => ['key' => 'heartbeat', 'value' => 'alive']],
    // A value as PHP serializes it.
    'rows' => ['SELECT item_id, hex(item_data) FROM cache_items'],
], new Cache());
