<?php
/**
 * Beside a writer, or on a full disk, deleteItem() and clear() say true and delete nothing.
 *
 * Expected: false, as PSR-6 asks: "True if the item was successfully removed. False if there was an error."
 * Fix: catch only what isTableMissing() knows in doDelete() and doClear(); AbstractAdapter makes false of the rest.
 */
require '/usr/share/php/Symfony/Component/Cache/autoload.php';

use Symfony\Component\Cache\Adapter\PdoAdapter;

$path = tempnam(sys_get_temp_dir(), 'cache');
$connection = new PDO("sqlite:$path", null, null, [PDO::ATTR_TIMEOUT => 0, PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
$pool = new PdoAdapter($connection);
$pool->save($pool->getItem('token')->set('secret'));
// Another process writes.
$other = new PDO("sqlite:$path");
$other->exec('BEGIN IMMEDIATE');
echo 'deleteItem(): ', var_export($pool->deleteItem('token'), true), "\n";
echo 'clear(): ', var_export($pool->clear(), true), "\n";
$other->exec('ROLLBACK');
$item = $pool->getItem('token');
echo 'the item: ', $item->isHit() ? $item->get() : 'gone', "\n";
unlink($path);
