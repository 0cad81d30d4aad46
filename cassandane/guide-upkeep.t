#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Chapters 9 and 11 to 13 of the administrators' guide do what they say: copies, maintenance, damage and
# repair, the past. Their commands are taken from the text and run, on backups that a real sync_client made.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare qw(backup_state differences);
use CBTest::Damage;
use CBTest::Guide;
use CBTest::Imap;
use CBTest::Scenarios qw(no_differences);
use CBTest::Site;
use CBTest::Util qw(program run_cmd as_cyrus slurp spew);
use Test::More;

my @users = qw(alice frank);
my $site = CBTest::Site->new(users => \@users);
my $dir = $site->{dir};
my $c = CBTest::Case->new(site => $site, user => 'alice', reader => 'frank');

for my $n (1 .. 4) {
    $c->{imap}->append('INBOX', CBTest::Imap::message(subject => "number $n", body => CBTest::Imap::noise(3000, $n)));
    $site->deliver('frank', CBTest::Imap::message(subject => "to frank $n"));
    is($site->sync('unix', '-A')->{rc}, 0, 'sync');
}
$site->{backup}->stop;
$site->{backup}{options}{'backuppartition-big'} = "$dir/big";
$site->{backup}->write_config;
$site->{backup}->start;
my $before = state();
my $then = time;

# Another host with a configuration of its own, where only files are looked at.
my $other = "$dir/other";
run_cmd(cmd => [as_cyrus('mkdir', '-p', "$other/conf", "$other/part", "$other/staging", "$dir/tape", "$dir/big")]);
my $text = slurp($site->{backup}->conf);
$text =~ s{^configdirectory:.*}{configdirectory: $other/conf}m;
$text =~ s{^backuppartition-big:.*\n}{}m;
$text =~ s{\Q$dir\E/backup/(part|conf/backups)}{$other/$1}g;
spew("$other/imapd.conf", $text);

my $conf = "\${CONF:-@{[ $site->{backup}->conf ]}}";
my $guide = CBTest::Guide->new(
    dir => $dir, env => $site->env, chapters => [9, 11, 12, 13],
    paths => {
        'other:/srv/backup' => "$other/part", '/srv/backup' => "$dir/backup/part", '/srv/big' => "$dir/big",
        '/srv/tape' => "$dir/tape", '/tmp/work.mbox' => "$dir/tape/work.mbox",
        '-1d' => "\@$then", '-1h' => "\@$then",
    },
    programs => {
        (map { $_ => program($_) . " -C $conf" } qw(cyr_backup ctl_backups)),
        sync_client => '/usr/lib/cyrus/bin/sync_client -C ' . $site->{imap}->conf,
    },
    said => {
        (map { $_ => qr/^reconstruct(?: \(dry run\))?: |^reconstruct: .*damaged/ } '9.3', '12.4'),
        '11.4' => qr/^\w+: [\d.]+% .* free now, /,
    });
spew($site->{imap}->conf, slurp($site->{imap}->conf) . "backup_sync_host: $dir/backup/conf/backupd.sock\n");

sub state { return { map { $_ => backup_state($site, $_) } @users } }
sub equal_ok
{
    my ($what) = @_;
    for my $user (@users) {
        no_differences("$what: $user: both sides equal", eval { differences($site, $user, full => 1) }, $@ || ());
    }
    return;
}

# ---- 9: copies ---------------------------------------------------------------------------------------

$guide->follow('9.1');
$guide->follow('9.1');
is(scalar(() = glob "$other/part/*/*.index*"), 0, '9.1: no index was copied');
is(scalar(() = glob "$other/part/*/*"), scalar @users, '9.1: all data files were');
$guide->follow('9.2');
my $r = run_cmd(cmd => ['tar', '-tf', "$dir/tape/backup.tar"]);
is(scalar(() = $r->{out} =~ m{/(?:alice|frank)_\w{6}$}mg), 2, '9.2: the tape has all data files') or diag($r->{out});
{
    local $guide->{env} = { %{ $guide->{env} }, CONF => "$other/imapd.conf" };
    my $out = $guide->follow('9.3');
    like($out, qr{\t$_\t\Q$other\E/part/}, "9.3: $_ is found") for @users;
    for my $user (@users) {
        $r = run_cmd(cmd => [as_cyrus(program('cyr_backup'), '-C', "$other/imapd.conf", $user, 'json', 'all')],
            env => $site->env);
        is_deeply(CBTest::Compare::decode($r->{out}), $before->{$user}, "9.3: the copy of $user says the same");
    }
}

# ---- 11: maintenance ---------------------------------------------------------------------------------

$guide->follow('11.1');
like($guide->follow('11.2'), qr/^compact alice: (?:ok|skipped)/m, '11.2: compacted');
is_deeply(state(), $before, '11.2: the backups say what they said');
like($guide->follow('11.3'), qr/^verify alice: ok$/m, '11.3: verified');
$guide->follow('11.4');
is(scalar(grep { /_\w{6}$/ } glob "$dir/backup/part/*/*"), 0, '11.4: the partition is empty');
is_deeply(state(), $before, '11.4: the backups say what they said');
my $out = $guide->follow('11.5');
like($out, qr/^undelete frank: ok/m, '11.5: frank was there again');
unlike($site->{backup}->tool(program('ctl_backups'), 'list')->{out}, qr/\tfrank\t/, '11.5: and is gone');
is(scalar(() = glob "{$dir/big,$dir/backup/part}/*/frank*"), 0, '11.5: with all files');
is($site->sync('unix', '-u', 'frank')->{rc}, 0, '11.5: the next sync');
equal_ok('11.5');

# ---- 13: the past ------------------------------------------------------------------------------------

$out = $guide->follow('13', 0);
like($out, qr/ user\.alice$/m, '13: the mailbox was there');
$guide->follow('13', 1);
is(scalar(() = slurp("$dir/tape/work.mbox") =~ /^From /mg), 4, '13: all its messages were');
$c->expunge('', 1);
is($site->sync('unix', '-u', 'alice')->{rc}, 0, '13: a sync');
$out = $guide->follow('13', 2);
like($out, qr/^\S+ \S+\texpunged\t.*uid=1\b.*^gone\t/ms, '13: what happened, and what is different');
for my $what ('create', 'delete') {
    $c->{admin}->must($what => $c->adm('Work'));
    is($site->sync('unix', '-u', 'alice')->{rc}, 0, "13: $what, and a sync");
}
like($guide->follow('13', 3), qr/\tmailbox-created\tuser\.alice\.Work\b.*\tmailbox-deleted\tuser\.alice\.Work\b/s,
    '13: what became of a folder');

# ---- 12: damage --------------------------------------------------------------------------------------

my ($file) = split /\n/, $site->{backup}->tool(program('ctl_backups'), 'list', 'alice')->{out} =~ s/.*\t//r;
my @members = CBTest::Damage::members(slurp($file));
my @large = (sort { $b->{end} - $b->{at} <=> $a->{end} - $a->{at} } @members)[0 .. 3];
my ($last) = sort { $b->{at} <=> $a->{at} } @large; # with a message that is still there
CBTest::Damage->flip($file, $last->{at} + 200);
$out = $guide->follow('12.2', 0);
like($out, qr/^alice: damaged$/m, '12.2: the damage is found');
unlike($out, qr/^verify alice: ok$/m, '12.2: and said');
$guide->follow('12.2', 1);
$out = $guide->follow('12.2', 2);
like($out, qr/^verify alice: ok/m, '12.2: after the sync all is well');
like($out, qr/^4$/m, '12.2: with all messages');
equal_ok('12.2');

unlink "$dir/backup/conf/backups.db";
isnt($site->sync('unix', '-u', 'alice')->{rc}, 0, '12.4: nobody begins anew meanwhile');
$out = $guide->follow('12.4');
like($out, qr/^reconstruct $_: added/m, "12.4: $_ is found") for @users;
equal_ok('12.4');
spew("$dir/backup/conf/backups.db", 'x' x 500);
like($guide->follow('12.4'), qr/^reconstruct alice: added/m, '12.4: from a damaged one, too');
equal_ok('12.4');
like($guide->follow('12.5'), qr/^reindex alice: ok/m, '12.5: made anew');
equal_ok('12.5');

$guide->all_were_run;
done_testing;
