#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# cyr_backup log: things happen to a user's mailboxes on a real server, a day apart on the clock of
# the backup host, each followed by a sync. The log must name each of them, with what belongs to
# it, at its time, and nothing else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare;
use CBTest::Imap;
use CBTest::Site;
use Digest::SHA qw(sha1_hex);
use POSIX qw(strftime);
use Test::More;

$ENV{TZ} = 'UTC';
my $site = CBTest::Site->new(users => [qw(alice frank gina)], clock => 1);
my $clock = $site->{clock};
my $c = CBTest::Case->new(site => $site, user => 'alice', reader => 'frank');
my $imap = $c->{imap};

my %message;    # name -> bytes
sub message
{
    my ($name, @flags) = @_;
    $message{$name} = CBTest::Imap::message(subject => $name);
    return $message{$name};
}

# An event as a line: details in the order they come, GUIDs as names of messages.
sub line_of
{
    my ($e) = @_;
    my %name = map { (guid($_) => $_) } keys %message;
    my @words = ($e->{kind}, $e->{item});
    for my $key (qw(uid guid key entry user was is set cleared flags from from_uid to to_uid size again)) {
        next unless defined $e->{$key};
        my $v = ref $e->{$key} ? '(' . join(' ', sort @{ $e->{$key} }) . ')' : $e->{$key};
        $v = $name{$v} if $key eq 'guid' && $name{$v};
        push @words, "$key=$v" unless $v eq '()' || $key eq 'size';
    }
    return join ' ', @words;
}

# What IMAP gives back, which may have more lines in its header.
my %guid;
sub guid
{
    my ($name) = @_;
    return $guid{$name} //= sha1_hex($message{$name} =~ s/\r?\n/\r\n/gr);
}

sub log_of
{
    my (@args) = @_;
    return @{ CBTest::Compare::backup_json($site, 'alice', 'log', @args) };
}

my (@moments, @told);

# Do it, sync, look at what is told of it; @want are lines, a regex stands for itself.
sub step
{
    my ($name, $code, @want) = @_;
    my $sync = ref $want[0] eq 'CODE' ? shift @want : sub { return $site->sync('proxy', '-u', 'alice') };
    subtest $name => sub {
        $clock->advance(86_400);
        my $from = $clock->now;
        $code->();
        my $r = $sync->();
        is($r->{rc}, 0, 'sync') or diag($r->{err});
        my $to = $clock->now;
        push @moments, [$name, $from, $to];
        my @events = log_of('--since', "\@$from");
        my @got = map { line_of($_) } @events;
        push @told, @events;
        my @left = @got;
        for my $want (@want) {
            my ($i) = grep { ref $want ? $left[$_] =~ $want : $left[$_] eq $want } 0 .. $#left;
            ok(defined $i, "told: $want");
            splice @left, $i, 1 if defined $i;
        }
        is_deeply(\@left, [], 'nothing else is told') or diag(join "\n", 'all that is told:', @got);
        ok(!(grep { $_->{epoch} < $from || $_->{epoch} > $to } @events), 'at its time');
        is($events[0]{time}, strftime('%Y-%m-%d %H:%M:%S', gmtime $events[0]{epoch}), 'in local time') if @events;
    };
    return;
}

my $INBOX = 'user.alice';
my @limits;

step('the first sync', sub { $c->fill('', message('one'), message('two')) },
    "mailbox-created $INBOX", "arrived $INBOX uid=1 guid=one", "arrived $INBOX uid=2 guid=two");
step('mail arrives', sub { $imap->append($c->own(''), message('three'), flags => ['\Flagged']) },
    qr/^arrived \Q$INBOX\E uid=3 guid=three/);
step('flags are set', sub {
    $c->in_folder('', sub { $_[0]->must(store => '1:2', '+FLAGS', '(\Seen $Work)') });
}, map { "flags $INBOX uid=$_ guid=" . (qw(x one two))[$_] . ' set=($Work \Seen)' } 1, 2);
step('a flag is cleared, another set', sub {
    $c->in_folder('', sub {
        $_[0]->must(store => '1', '-FLAGS', '(\Seen)');
        $_[0]->must(store => '1', '+FLAGS', '(\Answered)');
    });
}, "flags $INBOX uid=1 guid=one set=(\\Answered) cleared=(\\Seen)");
step('a folder is made', sub { $imap->must(create => $c->own('Work')) }, "mailbox-created $INBOX.Work");
step('a message is copied', sub {
    $c->in_folder('', sub { $_[0]->must(copy => '1', $c->own('Work')) });
}, "copied $INBOX.Work uid=1 guid=one flags=(\$Work \\Answered) from=$INBOX from_uid=1");
step('a message is moved', sub {
    $c->in_folder('', sub { $_[0]->raw('UID MOVE', '2 ' . $c->own('Work')) });
}, "moved $INBOX.Work uid=2 guid=two flags=(\$Work \\Seen) from=$INBOX from_uid=2",
    "flags $INBOX uid=2 guid=two set=(\\Deleted)",
    "expunged $INBOX uid=2 guid=two to=$INBOX.Work to_uid=2");
step('a message is expunged', sub { $c->expunge('', '1') },
    "flags $INBOX uid=1 guid=one set=(\\Deleted)", "expunged $INBOX uid=1 guid=one");
step('a message is annotated', sub {
    $c->in_folder('Work', sub { $_[0]->raw('STORE', '1 ANNOTATION (/comment (value.shared "hello you"))') });
}, "annotated $INBOX.Work uid=1 guid=one entry=/comment user= is=hello you");
step('a folder is annotated', sub {
    $imap->raw('SETMETADATA', $c->own('Work') . ' (/shared/comment "a comment")');
}, "mailbox-annotated $INBOX.Work entry=/comment user= is=a comment");
step('rights are given', sub { $c->{admin}->must(setacl => $c->adm('Work'), 'frank', 'lr') },
    qr/^mailbox-changed \Q$INBOX\E\.Work key=ACL was=alice\t\w+\tadmin\t\w+\t is=.*\tfrank\tlr\t/);
step('subscriptions', sub {
    $imap->must(subscribe => $c->own('Work'));
    $imap->must(subscribe => $c->own(''));
}, "subscribed $INBOX.Work", "subscribed $INBOX");
step('a subscription less', sub { $imap->must(unsubscribe => $c->own('')) }, "unsubscribed $INBOX");
step('a limit', sub { $c->{admin}->must(setquota => $c->adm(''), '(STORAGE 5000)') },
    qr/^quota-set \Q$INBOX\E is=\(.*STORAGE=5000.*\)$/);
step('another limit', sub { $c->{admin}->must(setquota => $c->adm(''), '(STORAGE 6000)') },
    qr/^quota-set \Q$INBOX\E was=\(.*STORAGE=5000.*\) is=\(.*STORAGE=6000.*\)$/);
step('scripts', sub {
    my $sieve = $site->sieve_as('alice');
    $sieve->put('main', "keep;\n");
    $sieve->put('other', "stop;\n");
    $sieve->activate('main');
}, 'script-uploaded main', 'script-uploaded other', 'script-activated main');
step('a script changes, another is active', sub {
    my $sieve = $site->sieve_as('alice');
    $sieve->put('main', "discard;\n");
    $sieve->activate('other');
}, 'script-changed main', 'script-deactivated main', 'script-activated other');
step('a script goes', sub { $site->sieve_as('alice')->delete('main') }, 'script-deleted main');
step('three folders more', sub {
    $imap->must(create => $c->own($_)) for qw(Plan Past Former);
    $imap->append($c->own('Plan'), message('plan'));
}, (map { "mailbox-created $INBOX.$_" } qw(Plan Past Former)), "arrived $INBOX.Plan uid=1 guid=plan");
# Told one by one, first the one that has another's name now; Past and Former change places by way of a
# name that is never told.
step('folders are renamed, others take their names', sub {
    $imap->must(rename => map { $c->own($_) } @{$_}) for [qw(Plan Attic)], [qw(Past Other)], [qw(Former Past)], [qw(Other Former)];
    $imap->must(create => $c->own('Plan'));
}, sub {
    my @r = map { $site->sync('proxy', '-m', $c->adm($_)) } qw(Plan Attic Past Former);
    return (grep { $_->{rc} } @r)[0] // $r[0];
}, "mailbox-created $INBOX.Plan", "mailbox-renamed $INBOX.Attic from=$INBOX.Plan",
    "mailbox-renamed $INBOX.Past from=$INBOX.Former", "mailbox-renamed $INBOX.Former from=$INBOX.Past");
step('a folder is renamed', sub { $imap->must(rename => $c->own('Work'), $c->own('Play')) },
    "mailbox-renamed $INBOX.Play from=$INBOX.Work",
    "mailbox-changed $INBOX.Play key=QUOTAROOT is=$INBOX"); # it is told with something else only
step('a folder is deleted', sub { $imap->must(delete => $c->own('Play')) },
    qr/^mailbox-deleted \Q$INBOX\E\.Play to=DELETED\.\Q$INBOX\E\.Play\.[0-9A-F]+$/);
step('nothing happens', sub { });

# ---- everything together ----------------------------------------------------------------------

my @all = log_of();
is_deeply(\@all, \@told, 'all of it is what was told step by step');
cmp_ok(scalar @all, '>=', 25, 'events');

# The same lines as text: time, kind, item, details.
my $text = $site->cyr_backup('alice', 'log');
is($text->{rc}, 0, 'text: exit code');
my @lines = split /\n/, $text->{out};
is_deeply([map { join "\t", (split /\t/)[0 .. 2] } @lines],
    [map { "$_->{time}\t$_->{kind}\t$_->{item}" } @all], 'text: the same times, kinds and items');
is(scalar(grep { !/^[^\t]+\t[^\t]+\t[^\t]+(?:\t[^\t]+)?\z/ } @lines), 0, 'text: three or four fields');
like($text->{out}, qr/\tannotated\t\Q$INBOX\E\.Work\tuid=1 guid=\w{40} entry=\/comment user="" is="hello you"\n/,
    'text: values in quotes');
like($text->{out}, qr/\tflags\t\Q$INBOX\E\tuid=1 guid=\w{40} set=\(\\Answered\) cleared=\(\\Seen\)\n/,
    'text: words in brackets');

# What was told in two pieces is one thing in diff, too.
{
    my ($i) = grep { $moments[$_][0] =~ /^folders are renamed/ } 0 .. $#moments;
    my $diff = $site->cyr_backup('alice', 'diff', map { "\@$moments[$_][2]" } $i - 1, $i);
    is_deeply([sort split /\n/, $diff->{out}], [sort "mailbox-created\t$INBOX.Plan",
        "mailbox-renamed\t$INBOX.Attic\tfrom=$INBOX.Plan", "mailbox-renamed\t$INBOX.Past\tfrom=$INBOX.Former",
        "mailbox-renamed\t$INBOX.Former\tfrom=$INBOX.Past"], 'diff: renamed');
}

# ---- ranges and items ---------------------------------------------------------------------------

for my $i (5, 10) {
    my ($name, $from, $to) = @{ $moments[$i] };
    my @want = grep { $_->{epoch} >= $from && $_->{epoch} <= $to } @all;
    is_deeply([log_of('--since', "\@$from", '--until', "\@$to")], \@want, "since and until: $name");
    is_deeply([log_of('--until', "\@$to")], [grep { $_->{epoch} <= $to } @all], "until: $name");
    is_deeply([log_of('--as-of', "\@$to")], [grep { $_->{epoch} <= $to } @all], "as of: $name");
}
is_deeply([log_of('--since', '@' . $clock->now)], [], 'since now');
my ($work) = grep { $_->{item} eq "$INBOX.Work" } @all;
my @work = grep { ($_->{uniqueid} // '') eq $work->{uniqueid} } @all;
is_deeply([log_of($work->{uniqueid})], \@work, 'one mailbox, by its uniqueid');
is_deeply([log_of("$INBOX.Work", '--as-of', "\@$moments[8][2]")],
    [grep { $_->{epoch} <= $moments[8][2] } @work], 'one mailbox, by the name it had then');
is_deeply([log_of($_)], \@work, "or by a name it had once: $_") for "$INBOX.Work", "$INBOX.Play";
my @two = grep { ($_->{guid} // '') eq guid('two') } @all;
is(scalar @two, 5, 'arrived, read, deleted, moved from and to');
is_deeply([log_of(guid('two'))], \@two, 'one message');
my $none = $site->cyr_backup('alice', 'log', 'nosuch');
is($none->{rc}, 75, 'unknown item: exit code');
like($none->{err}, qr/^alice: Item does not exist/m, 'unknown item: reason');
my $early = $site->cyr_backup('alice', 'log', '--since', '2020-01-01');
is($early->{rc}, 0, 'since before the beginning: exit code');
is($early->{out}, $text->{out}, 'since before the beginning: all there is');
like($early->{err}, qr/^alice: history begins at 2\d{3}-/m, 'since before the beginning: said');
is($site->cyr_backup('alice', 'log', '--until', '2020-01-01')->{rc}, 75, 'until before the beginning');

# ---- after a compaction -------------------------------------------------------------------------

# The backup keeps seven days: of these the same is told as before, of what was before them nothing.
{
    my @pair = map { "\@$moments[$_][2]" } -5, -1;
    my $diff = $site->cyr_backup('alice', 'diff', @pair)->{out};
    like($diff, qr/^mailbox-deleted\t/m, 'something differs');
    my $r = $site->ctl_backups('compact', '-F', 'alice');
    is($r->{out}, "compact alice: ok\n", 'compacted') or diag($r->{err});
    my $after = $site->cyr_backup('alice', 'log', '--since', '2020-01-01');
    is($after->{rc}, 0, 'log: exit code');
    my ($begin) = $after->{err} =~ /^alice: history begins at (.*)$/m;
    ok(defined $begin, 'history begins later now') or diag($after->{err});
    my @kept = grep { $_->{time} gt $begin } @all;
    ok(@kept >= 5 && @kept < @all, 'events in the window, and before it');
    is_deeply([log_of()], \@kept, 'of the window everything is told as before');
    is($site->cyr_backup('alice', 'diff', @pair)->{out}, $diff, 'the same differs');
    my $before = $site->cyr_backup('alice', 'diff', "\@$moments[2][2]");
    is($before->{rc}, 75, 'a moment before it: exit code');
    like($before->{err}, qr/^alice: there is no history of .*: it begins at \Q$begin\E$/m, 'a moment before it: reason');
}

# ---- what somebody has seen in another's mailbox --------------------------------------------------

{
    my $gina = $site->names->inbox('gina');
    my $reader = $site->imap_as('frank');
    $site->imap_as('gina')->append('INBOX', CBTest::Imap::message(subject => "to gina $_")) for 1 .. 3;
    $c->{admin}->must(setacl => $c->of_user('gina', ''), 'frank', 'lrswi');
    my $reads = sub {
        my ($uids) = @_;
        $reader->must(select => $site->names->for_user('frank', $gina));
        $reader->must(store => $uids, '+FLAGS', '(\\Seen)');
        $reader->must('unselect');
        is($site->sync('proxy', '-u', $_)->{rc}, 0, "$_: sync") for qw(gina frank);
    };
    $reads->('1');
    my $first = $clock->now;
    my ($uniqueid) = $site->cyr_backup('gina', 'list', 'mailboxes')->{out} =~ /^(\S+) .* \Q$gina\E$/m;
    $clock->advance(3600);
    $reads->('1:3');
    my $told = "seen\t$uniqueid\tlastuid=3 seenuids=1:3\n";
    is($site->cyr_backup('frank', 'diff', "\@$first")->{out}, $told, 'diff: what was seen since');
    is_deeply(CBTest::Compare::backup_json($site, 'frank', 'diff', "\@$first"),
        [{ kind => 'seen', item => $uniqueid, lastuid => 3, seenuids => '1:3' }], 'the same as JSON');
    my $log = $site->cyr_backup('frank', 'log', '--since', '@' . ($first + 1));
    is($log->{out} =~ s/^.*?\t//r, $told, 'log: the same, with its time');
    is($site->cyr_backup('frank', 'diff', 'now')->{out}, '', 'nothing since now');
}

# ---- the user is removed ------------------------------------------------------------------------

$imap->must('logout');
step('the user is deleted', sub { $c->{admin}->must(delete => $c->adm('')) },
    sub { return (map { $site->sync_log_once('proxy') } 1 .. 3)[-1] },
    'user-removed alice', "unsubscribed $INBOX.Work", 'script-deleted other', 'script-deactivated other',
    qr/^quota-removed \Q$INBOX\E was=/, qr/^mailbox-deleted \Q$INBOX\E to=DELETED/,
    (map { qr/^mailbox-deleted \Q$INBOX\E\.$_ to=DELETED/ } qw(Attic Former Past Plan)),
    (qr/^mailbox-purged DELETED/) x 6);

# gina has one mailbox and nothing else.
{
    $clock->advance(86_400);
    my $from = $clock->now;
    $c->{admin}->must(delete => $c->of_user('gina', ''));
    is($site->sync_log_once('proxy')->{rc}, 0, 'sync') for 1 .. 3;
    my $log = $site->cyr_backup('gina', 'log', '--since', "\@$from");
    is(join(' ', $log->{out} =~ /^[^\t]*\t([^\t]*\t\w+)/mg), "mailbox-deleted\tuser user-removed\tgina mailbox-purged\tDELETED",
        'one mailbox: its user was removed') or diag($log->{out});
    my $json = CBTest::Compare::backup_json($site, 'gina', 'log', '--since', "\@$from");
    is_deeply([map { $_->{kind} } @{$json}], [qw(mailbox-deleted user-removed mailbox-purged)], 'as JSON');
    is($site->ctl_backups('compact', '-F', 'gina')->{out}, "compact gina: ok\n", 'compacted');
    is($site->cyr_backup('gina', 'log', '--since', "\@$from")->{out}, $log->{out}, 'it is still told');
}
done_testing;
