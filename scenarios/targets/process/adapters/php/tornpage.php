<?php
// The tornpage protocol for PHP: copy this file beside your adapter. You write a class with `open`, `call`, `view`, `close`.
//
//   tornpage_serve($description, new Adapter());
//
// `open(array $where)` gets directory, journal_mode, synchronous and now_ms, and may return the database's path where the
// store chooses it. What `call(string $action, array $args, int $nowMs)` returns is its answer; what it throws has failed,
// or is refused if it is a Refused. What is echoed goes to standard error.

class Refused extends Exception {}

function tornpage_serve(array $description, object $adapter): void {
    ini_set('display_errors', 'stderr');
    ob_start(function (string $text): string { fwrite(STDERR, $text); return ''; }, 1);
    while (($line = fgets(STDIN)) !== false) {
        $request = json_decode($line, true);
        $said = ['answer' => 'done'];
        try {
            switch ($request['do']) {
                case 'describe': $said += ['protocol' => 1, 'pid' => getmypid(), 'description' => tornpage_objects($description)]; break;
                case 'open': if (is_string($database = $adapter->open($request))) $said['database'] = $database; break;
                case 'call':
                    $value = $adapter->call($request['action'], $request['args'], $request['now_ms']);
                    if ($value !== null) $said['value'] = $value;
                    break;
                case 'view': $said['view'] = (object)$adapter->view(); break;
                case 'close': $adapter->close(); break;
            }
        } catch (Refused $refusal) {
            $said = ['answer' => 'refused', 'message' => $refusal->getMessage()];
        } catch (Throwable $error) {
            $said = ['answer' => 'failed', 'message' => $error->getMessage()];
        }
        fwrite(STDOUT, json_encode($said, JSON_INVALID_UTF8_SUBSTITUTE) . "\n");
        fflush(STDOUT);
    }
}

/** The same description, with objects where an empty array would be taken for a list. */
function tornpage_objects(array $description): array {
    $call = fn (array $one) => ['args' => (object)($one['args'] ?? [])] + $one;
    $description['calls'] = array_map($call, $description['calls']);
    $description['beat'] = $call($description['beat']);
    foreach (['unpromised', 'attached'] as $name) if (isset($description[$name])) $description[$name] = (object)$description[$name];
    return $description;
}
