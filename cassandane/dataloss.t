#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# The cases in which compaction, reindex and verify of Cyrus 3.0 - 3.10 lost something, or brought back
# what was gone (doc/upstream.md). In each, a real sync_client makes the situation; then the backup
# is compacted, its index lost and made anew, and verified, while everything is inside the retention
# period and when it has become old. It must equal the server at each moment.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state foreign_mail);
use CBTest::Feed qw(file_item);
use CBTest::Loss qw(situation message unzipped);
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Server qw(by_imap);
use CBTest::Site;
use CBTest::Util qw(sha1_hex slurp wait_until);
use Test::More;

my $DAY = 86400;
my $site = CBTest::Site->new(clock => 1, options => {
    imap => { delete_mode => 'immediate', expunge_mode => 'immediate' },
    backup => { backup_retention => '7d' } });

sub a_case { return situation($site, @_) }

my $SCRIPT = "require [\"fileinto\"];\r\nif header :is \"a\" \"b\" {\r\n  keep;\r\n}\r\n# \xc3\xa9\r\n";

# ---- lines that end something ---------------------------------------------------------------------

a_case('a chunk with nothing but UNSIEVE', sub {
    my ($c) = @_;
    $c->append('', message());
    my $sieve = $site->sieve_as($c->{user});
    $sieve->put('gone', $SCRIPT);
    $sieve->put('stays', $SCRIPT);
    undef $sieve;
    $c->sync;
    my $scripts = sub { return join ' ', sort keys %{ by_imap($site, $c->{user})->{sieve} } };
    is($scripts->(), 'gone stays', 'two scripts');
    $site->sieve_as($c->{user})->delete('gone');
    is($scripts->(), 'stays', 'what the comparison takes for true knows that one is gone');
    $c->sync;
});

a_case('a chunk with nothing but UNMAILBOX', sub {
    my ($c) = @_;
    $c->create('Gone', 'Stays');
    $c->append($_, message()) for 'Gone', 'Stays';
    $c->sync;
    $c->{imap}->must(delete => $c->own('Gone'));
    $c->sync;
});

a_case('a chunk with nothing but RENAME', sub {
    my ($c) = @_;
    $c->create('One', 'One.below');
    $c->append($_, message()) for 'One', 'One.below';
    $c->sync;
    $c->{imap}->must(rename => $c->own('One'), $c->own('Two'));
    $c->sync;
    $c->create('One');    # another
    $c->sync;
});

a_case('a folder unsubscribed, whose SUB stands where something lives', sub {
    my ($c) = @_;
    $c->create('Work');
    $c->append('', message());
    $c->{imap}->must(subscribe => $c->own($_)) for '', 'Work';
    $c->sync;
    $c->{imap}->must(unsubscribe => $c->own('Work'));
    $c->sync;
});

# ---- content ----------------------------------------------------------------------------------------

my $again = message();
a_case('a message expunged, and the same content added again', sub {
    my ($c) = @_;
    $c->create('Other');
    $c->append('', $again, message());
    $c->sync;
    $c->expunge('', '1');
    $c->sync;
    $c->append($_, $again) for '', 'Other';
    $c->sync;
    $c->expunge('Other', '1');
    $c->sync;
}, sub { is($_[0]->stored($again), 1, 'it is in the data file') });

my %dead = map { $_ => message() } qw(folder expunged moved);
a_case('messages of a deleted mailbox, and expunged ones, go when they are old', sub {
    my ($c) = @_;
    $c->create('Gone', 'Moved');
    $c->append('Gone', $dead{folder});
    $c->append('', $dead{expunged}, message());
    $c->append('Moved', $dead{moved});
    $c->sync;
    $c->{imap}->must(delete => $c->own('Gone'));
    $c->expunge('', '1');
    $c->{imap}->must(select => $c->own('Moved'));
    $c->{imap}->raw('UID MOVE', '1 INBOX');
    $c->{imap}->must('unselect');
    $c->sync;
}, sub {
    my ($c, $old) = @_;
    is($c->stored($dead{$_}), $old ? 0 : 1, "$_: " . ($old ? 'not ' : '') . 'in the data file') for qw(folder expunged);
    is($c->stored($dead{moved}), 1, 'what was moved away before is there');
    my %json = map { $_->{guid} => 1 } map { @{ $_->{records} } } @{ backup_state($site, $c->{user})->{mailboxes} };
    ok(!$json{ sha1_hex($dead{expunged}) }, 'nor does the present state speak of it') if $old;
});

a_case('the same message twice in a folder, one of them expunged', sub {
    my ($c) = @_;
    $c->append('', $again, message(), $again, $again);
    $c->sync;
    $c->expunge('', '1,4');
    $c->sync;
}, sub { is($_[0]->stored($again), 1, 'it is in the data file') });

# ---- literals ---------------------------------------------------------------------------------------

a_case('scripts of several lines, one of them active, and what is behind them in the chunk', sub {
    my ($c) = @_;
    my $sieve = $site->sieve_as($c->{user});
    $sieve->put($_, "# $_\r\n$SCRIPT") for qw(one two three);
    $sieve->activate('two');
    undef $sieve;
    $c->create('Behind');
    $c->append('Behind', message());
    $c->{imap}->must(subscribe => $c->own('Behind'));
    $c->sync;
    $site->sieve_as($c->{user})->put('two', "# two, changed\r\n$SCRIPT");
    $c->sync;
}, sub {
    my ($c) = @_;
    my %active = map { $_->{filename} => 1 } grep { $_->{active} } @{ backup_state($site, $c->{user})->{sieve} };
    ok($active{'two.script'} || $active{'two.bc'}, 'the active one is active');
});

a_case('annotations with line breaks, of a mailbox and of messages', sub {
    my ($c) = @_;
    my $note = sprintf "{%d+}\r\n%s", 20, "two\r\nlines, \xc3\xa4\xc3\xb6\r\n\r\n";
    $c->create('Noted');
    $c->append($_, message(), message()) for '', 'Noted';
    $c->{imap}->raw('SETMETADATA', $c->own($_) . " (/shared/comment $note)") for '', 'Noted';
    $c->{imap}->must(select => $c->own('Noted'));
    $c->{imap}->raw('UID STORE', "1 ANNOTATION (/comment (value.shared $note value.priv $note))");
    $c->{imap}->must('unselect');
    $c->sync;
    $c->append('Noted', message());
    $c->sync;
});

# ---- what nothing refers to yet ------------------------------------------------------------------------

# Upload content as a client does that is cut off before it can say where it belongs.
sub upload
{
    my ($c, $text) = @_;
    my $csync = $site->backup_csync;
    my $guid = sha1_hex($text);
    for my $command ("GET USER $c->{user}",
        "APPLY RESERVE %(PARTITION default MBOXNAME (" . $c->internal('') . ") GUID ($guid))",
        'APPLY MESSAGE (' . file_item($text) . ')', 'RESTART') {
        my $r = $csync->command($command);
        die "$command: $r->{status} $r->{text}\n" if $r->{status} ne 'OK';
    }
    return;
}

subtest 'a compaction between an upload and its MAILBOX' => sub {
    my $c = CBTest::Loss->new($site);
    $c->append('', message());
    $c->sync;
    my ($wanted, $forgotten) = (message(), message());
    upload($c, $_) for $wanted, $forgotten;
    $c->append('', $wanted);
    is($c->stored($wanted), 1, 'the message is in the data file');
    $c->ctl_ok('-F', 'compact');
    is($c->stored($_), 1, 'and stays there') for $wanted, $forgotten;
    is(join(' ', $c->uploads), '', 'it is not uploaded again');
    $c->equal('after the next sync');
    $c->{clock}->advance($DAY / 2);
    $c->ctl_ok('-F', 'compact');
    is($c->stored($forgotten), 1, 'what nobody wants is there for a day');
    $c->{clock}->advance($DAY);
    $c->ctl_ok('-F', 'compact');
    is($c->stored($forgotten), 0, 'and then no more');
    $c->maintained('at last');
};

# ---- leftovers -------------------------------------------------------------------------------------------

sub beside
{
    my ($c) = @_;
    my ($dir) = $c->file =~ m{^(.*)/};
    return map { m{([^/]+)\z} } glob "$dir/$c->{user}" . '[_.]*';
}

subtest 'files of a compaction that died' => sub {
    my $c = CBTest::Loss->new($site);
    $c->append('', message()) for 1 .. 5;
    $c->sync;
    my ($data) = $c->file;
    (my $other = $data) =~ s/_[^_]+\z/_abcdef/;
    my @left = ("$data.new", "$data.new.index", "$data.index.new", "$other.new", "$other.new.index");
    CBTest::Util::spew($_, "what was left\n") for @left;
    chown((getpwnam 'cyrus')[2, 3], @left) if $> == 0;
    $c->maintained('with leftovers');
    no_differences('those of ours are gone', grep { -e } grep { !/\.index\.new$/ } @left);
    is(join(' ', $c->uploads), '', 'a sync works');
};

subtest 'compactions that are killed' => sub {
    my $c = CBTest::Loss->new($site);
    for my $n (1 .. 12) {
        $c->append('', map { message(body => CBTest::Imap::noise(60_000, 100 * $n + $_)) } 1 .. 10);
        $c->expunge('', '1:*') if $n == 4;
        $c->sync;
    }
    $c->{clock}->advance(9 * $DAY);
    $c->append('', message());
    $c->sync;
    my ($hit, $d) = (0, 0);
    for my $n (1 .. ($ENV{CYRUS_BACKUPS_LONG} ? 100 : 12)) {
        $hit++ if $site->killed_ctl_backups(0.003 + rand 0.12, '-F', 'compact', $c->{user});
        $c->append('', message());
        eval { $c->sync; 1 } or $d++, diag("sync after kill $n: $@");
        $c->equal("after kill $n") or $d++;
        last if $d;
    }
    cmp_ok($hit, '>', 3, "$hit times it was at work");
    $c->maintained('at last');
    my $file = ($c->file =~ m{([^/]+)\z})[0];
    is(join(' ', grep { !/^\Q$file\E(?:\.index(?:-wal|-shm)?)?\z/ } beside($c)), '', 'nothing is left beside the backup');
};

# ---- the clock -----------------------------------------------------------------------------------------

a_case('a clock that steps back, again and again', sub {
    my ($c) = @_;
    $c->append('', message());
    $c->sync;
    for my $n (1 .. 4) {
        $c->{clock}->advance(-$DAY);
        $c->append('', message());
        $c->expunge('', "$n");
        $c->sync;
    }
    $c->{clock}->advance(4 * $DAY);
});

# ---- other people ----------------------------------------------------------------------------------------

subtest 'nothing of other users' => sub {
    my @c = map { CBTest::Loss->new($site) } 1 .. 3;
    for my $c (@c) {
        $c->create('Own');
        $c->append($_, map { message() } 1 .. 3) for '', 'Own';
    }
    $c[0]->sync('-A');
    for my $c (@c) {
        $c->equal("$c->{user} at first");
        $c->expunge('', '1');
    }
    $c[0]->sync('-u', map { $_->{user} } @c);
    my @names = map { $_->{user} } @c;
    my $r = $site->ctl_backups('-F', 'compact', @names);
    is("exit $r->{rc}: $r->{out}$r->{err}", 'exit 0: ' . join('', map { "compact $_: ok\n" } @names), 'all are compacted');
    for my $c (@c) {
        $c->equal($c->{user});
        no_differences("$c->{user}: nothing of anybody else", foreign_mail($site, $c->{user}));
        my $text = unzipped($c->file);
        no_differences("$c->{user}: nobody else is named", grep { $_ ne $c->{user} && $text =~ /\b\Q$_\E\b/ } @names);
    }
};

memory_ok($site);
done_testing;
