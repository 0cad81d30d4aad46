# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Upstream - what the programs of Cyrus 3.6.1 make of our data files, and what they should.
#
# history() reads a data file, and expected() works out from its lines what their index must hold:
# the rules of their indexer, with its known defects. Each time one of these defects makes a
# difference, the place (a mailbox, or one UID of it) is noted under the defect's name. So
# same_answers() can ask for two things: their programs say exactly what the lines make them say,
# that is, they have read every line; and ours say the same, except in the places noted.
package CBTest::Upstream;
use strict;
use warnings;
use CBTest::Case;
use CBTest::Dlist;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use CBTest::Util qw(as_cyrus program run_cmd slurp spew);
use Exporter 'import';
use JSON;
use POSIX ();
use Test::More;
our @EXPORT_OK = qw(compare_file history run_upstream theme_site %DEFECTS);

# Verbs that are not theirs: reindex reports each such line, and calls it a failure if it is the last.
my %unknown = map { $_ => 1 } qw(ANNOTATION UNANNOTATION QUOTA UNQUOTA ACTIVATE_SIEVE UNACTIVATE_SIEVE UNUSER);

# What is wrong with their index, by the names under which expected() notes it.
our %DEFECTS = (
    twice => 'of several copies of a message in a mailbox it has room for one, the one told of last',
    again => 'once expunged, always expunged: a message that came back is shown as expunged',
    since => 'expunged at the time when any copy of the message in the mailbox was first expunged',
    empty => 'a record is left out if the content of its message has never been told',
    named => 'UNMAILBOX and RENAME go by name, so deleted mailboxes of the same name change, too',
    given => 'a mailbox renamed to another user is kept, under its new name',
    user => 'UNUSER is ignored: what the user had lives on',
);

# The lines of a data file: ([chunk, time, verb, value], ...), and for each chunk how many string
# literals are in it. Dies at the first thing that is not as it should be. THEIRS: the file is not ours,
# lines may stand behind one with a literal.
sub history
{
    my ($file, $theirs) = @_;
    my $r = run_cmd(cmd => ['zcat', $file]);
    die "zcat $file: $r->{err}\n" if $r->{rc} != 0;
    my $text = $r->{out};
    my ($chunk, @lines, @literals) = (0);
    pos($text) = 0;
    while (pos $text < length $text) {
        if ($text =~ /\G# cyrus backup: chunk start\r\n/gc) {
            $chunk++;
            $literals[$chunk] = 0;
            next;
        }
        $text =~ /\G(\d+) APPLY ([A-Z_]+) /gc
            or die "$file: no line: " . substr($text, pos $text, 80) . "\n";
        my ($time, $verb) = ($1, $2);
        die "$file: a line behind one that holds a literal\n" if $literals[$chunk] && !$theirs;
        my $before = $CBTest::Dlist::literals;
        my $value = CBTest::Dlist::parse_value(\$text);
        $text =~ /\G\r\n/gc or die "$file: no end of a $verb line\n";
        $literals[$chunk] += $CBTest::Dlist::literals - $before;
        push @lines, [$chunk, $time, $verb, $value];
    }
    return { lines => \@lines, literals => \@literals };
}

my @required = qw(UNIQUEID MBOXNAME LAST_UID HIGHESTMODSEQ RECENTUID RECENTTIME LAST_APPENDDATE
    POP3_LAST_LOGIN UIDVALIDITY PARTITION ACL OPTIONS RECORD);

# What their index must hold of it: { messages => { guid => 1 }, mailboxes => { uniqueid => {
# mboxname, appended, deleted, records => { guid => { uid, expunged } } } }, and
# noted => { defect => { place => 1 } } }.
sub expected
{
    my ($site, $history) = @_;
    my %x = (messages => {}, mailboxes => {}, noted => { map { $_ => {} } keys %DEFECTS });
    my $noted = $x{noted};
    my $of = sub { return $site->names->owner($_[0]) // '%SHARED' };
    for my $line (@{ $history->{lines} }) {
        my (undef, $time, $verb, $v) = @{$line};
        if ($verb eq 'MESSAGE') {
            $x{messages}{ $_->{FILE}[1] } = 1 for @{$v};
        } elsif ($verb eq 'MAILBOX') {
            next if grep { !exists $v->{$_} } @required;
            told(\%x, $time, $v);
        } elsif ($verb eq 'UNMAILBOX' || $verb eq 'RENAME') {
            my $name = ref $v ? $v->{OLDMBOXNAME} : $v;
            for my $id (grep { $x{mailboxes}{$_}{mboxname} eq $name } keys %{ $x{mailboxes} }) {
                my $m = $x{mailboxes}{$id};
                $noted->{named}{$id} = 1 if defined $m->{deleted};
                if ($verb eq 'UNMAILBOX') {
                    $m->{deleted} = $time;
                    next;
                }
                $noted->{given}{$id} = 1 if $of->($name) ne $of->($v->{NEWMBOXNAME});
                $m->{mboxname} = $v->{NEWMBOXNAME};
            }
        } elsif ($verb eq 'UNUSER') {
            $noted->{user}{$_} = 1 for keys %{ $x{mailboxes} };
        }
    }
    return \%x;
}

# One MAILBOX line.
sub told
{
    my ($x, $time, $v) = @_;
    my ($id, $noted) = ($v->{UNIQUEID}, $x->{noted});
    my $m = $x->{mailboxes}{$id} //= { records => {} };
    @{$m}{qw(mboxname appended deleted)} = ($v->{MBOXNAME}, $v->{LAST_APPENDDATE}, undef);
    delete $noted->{$_}{$id} for qw(named given user);
    for my $r (@{ $v->{RECORD} }) {
        my ($uid, $guid) = @{$r}{qw(UID GUID)};
        if (!$x->{messages}{$guid}) {
            $noted->{empty}{"$id $uid"} = 1;
            next;
        }
        delete $noted->{empty}{"$id $uid"};
        my $had = $m->{records}{$guid} //= {};
        my $gone = grep { defined && lc eq '\\expunged' } @{ $r->{FLAGS} };
        if (defined $had->{uid} && $had->{uid} != $uid) {
            $noted->{twice}{"$id $had->{uid}"} = 1;
            $noted->{since}{"$id $uid"} = 1 if $had->{expunged};
        }
        delete $noted->{twice}{"$id $uid"};
        delete $noted->{again}{"$id $uid"};
        $noted->{again}{"$id $uid"} = 1 if $had->{expunged} && !$gone;
        $noted->{since}{"$id $uid"} = 1 if $noted->{back}{"$id $guid"} && $gone;
        $noted->{back}{"$id $guid"} = 1 if $had->{expunged} && !$gone;
        $had->{uid} = $uid;
        $had->{expunged} //= $time if $gone;
    }
    return;
}

# ---- asking ----------------------------------------------------------------------------------

# A JSON answer of a program about a file.
sub answer
{
    my ($site, $program, $file, $what) = @_;
    my $r = $site->{backup}->tool({ timeout => 100 }, $program, '-f', $file, 'json', $what);
    die "$program json $what: exit $r->{rc}: $r->{err}$r->{out}\n" if $r->{rc} != 0;
    my $data = eval { JSON->new->utf8->decode($r->{out}) };
    die "$program json $what: $@" . substr($r->{out}, 0, 200) . "\n" if $@;
    return $data;
}

# What a program says of the mailboxes and messages of a file, in the form of expected(), except
# that records are by UID, and times are text.
sub view
{
    my ($site, $program, $file) = @_;
    my %v = (mailboxes => {});
    for my $m (@{ answer($site, $program, $file, 'mailboxes') }) {
        my %records = map { $_->{uid} => { guid => $_->{guid}, expunged => $_->{expunged} } } @{ $m->{messages} // [] };
        $v{mailboxes}{ $m->{uniqueid} } = { mboxname => $m->{mboxname}, appended => $m->{last_appenddate},
            deleted => undef, records => \%records };
    }
    $v{messages} = { map { $_->{guid} => join ' ', sort map { $_->{uniqueid} } @{ $_->{mailboxes} // [] } }
        @{ answer($site, $program, $file, 'messages') } };
    my @ids = sort keys %{ $v{mailboxes} } or return \%v;
    my $r = $site->{backup}->tool({ timeout => 100 }, $program, '-f', $file, 'show', 'mailboxes', @ids);
    die "$program show mailboxes: exit $r->{rc}: $r->{err}\n" if $r->{rc} != 0;
    my $of;
    for (split /\n/, $r->{out}) {
        $of = $1 if /^uniqueid: (\S+)$/;
        $v{mailboxes}{$of}{deleted} = $1 if /^deleted:\s+(\S.*)$/;
    }
    return \%v;
}

sub clock
{
    my ($time) = @_;
    return defined $time ? POSIX::strftime('%Y-%m-%d %H:%M:%S', localtime $time) : undef;
}

sub differ
{
    my ($what, $theirs, $other) = @_;
    $_ //= '(none)' for $theirs, $other;
    return $theirs eq $other ? () : "$what: theirs $theirs, not $other";
}

# Have their programs read all that the lines say?
sub reading_differences
{
    my ($x, $theirs) = @_;
    my @d;
    my %told = map { my $m = $x->{mailboxes}{$_}; ($_ => { %{$m}, appended => clock($m->{appended}),
        deleted => clock($m->{deleted}), records => { map { my $r = $m->{records}{$_};
        ($r->{uid} => { guid => $_, expunged => clock($r->{expunged}) }) } grep { defined $m->{records}{$_}{uid} }
        keys %{ $m->{records} } } }) } keys %{ $x->{mailboxes} };
    push @d, differ('mailboxes', join(' ', sort keys %{ $theirs->{mailboxes} }), join(' ', sort keys %told));
    push @d, differ('messages', join(' ', sort keys %{ $theirs->{messages} }), join(' ', sort keys %{ $x->{messages} }));
    for my $id (grep { $theirs->{mailboxes}{$_} } sort keys %told) {
        my ($t, $o) = ($theirs->{mailboxes}{$id}, $told{$id});
        push @d, map { differ("$o->{mboxname} $_", $t->{$_}, $o->{$_}) } qw(mboxname appended deleted);
        my %uids = map { $_ => 1 } keys %{ $t->{records} }, keys %{ $o->{records} };
        for my $uid (sort { $a <=> $b } keys %uids) {
            push @d, map { differ("$o->{mboxname} uid $uid $_", $t->{records}{$uid}{$_}, $o->{records}{$uid}{$_}) }
                qw(guid expunged);
        }
    }
    return @d;
}

# Do ours say the same as theirs? Counts in %{$seen} how often a defect was the reason for a difference.
sub telling_differences
{
    my ($noted, $theirs, $ours, $seen) = @_;
    my @d;
    my $but = sub {    # a difference, unless one of these defects is noted for the place
        my ($place, $text, @defects) = @_;
        my ($why) = grep { $noted->{$_}{$place} } @defects;
        defined $why ? $seen->{$why}++ : push @d, $text;
    };
    my ($tm, $om) = ($theirs->{mailboxes}, $ours->{mailboxes});
    my %ids = map { $_ => 1 } keys %{$tm}, keys %{$om};
    my %in;
    for my $id (sort keys %ids) {
        my ($t, $o) = ($tm->{$id}, $om->{$id});
        if (!$t || !$o) {
            push @d, 'mailbox ' . ($t // $o)->{mboxname} . ' only in ' . ($t ? 'theirs' : 'ours');
            next;
        }
        for my $key (qw(mboxname appended deleted)) {
            my ($text) = differ("$o->{mboxname} $key", $t->{$key}, $o->{$key}) or next;
            $but->($id, $text, $key eq 'appended' ? () : qw(named given user));
        }
        my %uids = map { $_ => 1 } keys %{ $t->{records} }, keys %{ $o->{records} };
        for my $uid (sort { $a <=> $b } keys %uids) {
            my ($tr, $or) = ($t->{records}{$uid}, $o->{records}{$uid});
            my $place = "$o->{mboxname} uid $uid";
            if (!$or) {
                push @d, "$place only in theirs";
                next;
            }
            if (!$tr) {
                $but->("$id $uid", "$place only in ours", qw(twice empty));
                $in{ $or->{guid} }{$id} = 1 if $noted->{empty}{"$id $uid"};
                next;
            }
            push @d, differ("$place guid", $tr->{guid}, $or->{guid});
            my ($text) = differ("$place expunged", $tr->{expunged}, $or->{expunged}) or next;
            $but->("$id $uid", $text, defined $or->{expunged} ? 'since' : 'again');
        }
    }
    for my $guid (sort keys %{ { %{ $theirs->{messages} }, %{ $ours->{messages} } } }) {
        my ($t, $o) = map { $_->{messages}{$guid} } $theirs, $ours;
        push @d, differ("message $guid in", $t, $o);
    }
    return @d;
}

# Their chunks and ours: a string literal counts one byte more with them.
sub chunk_differences
{
    my ($site, $history, $theirs, $ours, @files) = @_;
    my ($tc, $oc) = map { answer($site, @{$_}, 'chunks') } [$theirs, $files[0]], [$ours, $files[1]];
    my @d = differ('number of chunks', scalar @{$tc}, scalar @{$oc});
    for my $n (0 .. $#{$oc}) {
        my ($t, $o) = ($tc->[$n] // last, $oc->[$n]);
        my $length = $o->{length} + $history->{literals}[$n + 1];
        push @d, differ("length of chunk $o->{id}", $t->{length}, $length);
        push @d, map { differ("$_ of chunk $o->{id}", $t->{$_}, $o->{$_}) } 'id', 'offset', 'start time', 'end time';
    }
    return @d;
}

# The stdout of `list WHAT`, its lines in order.
sub list
{
    my ($site, $program, $file, $what) = @_;
    my $r = $site->{backup}->tool({ timeout => 100 }, $program, '-f', $file, 'list', $what);
    die "$program list $what: exit $r->{rc}: $r->{err}\n" if $r->{rc} != 0;
    return join "\n", sort split /\n/, $r->{out};
}

# A file for their programs: all of ours, and a chunk at the end that they like (doc/format.md).
sub copy_for_them
{
    my ($site, $live, $copy, $history) = @_;
    my $text = slurp($live);
    if ($history->{literals}[-1] || $unknown{ $history->{lines}[-1][2] }) {
        my $last = $history->{lines}[-1][1];
        my $r = run_cmd(cmd => ['gzip', '-n'], input => "# cyrus backup: chunk start\r\n"
            . "$last APPLY RESERVE %(PARTITION default MBOXNAME () GUID ())\r\n");
        $text .= $r->{out};
        push @{ $history->{literals} }, 0;
    }
    run_cmd(cmd => [as_cyrus('touch', $copy)]);
    spew($copy, $text);
    return;
}

# Everything about one of our files, as a subtest. Adds to %{$seen} the defects that showed.
sub compare_file
{
    my ($site, $live, $seen) = @_;
    my ($name) = $live =~ m{([^/]+)_[^/]{6}$};
    return subtest "backup of $name" => sub {
        my $history = eval { history($live) };
        ok($history, 'the file is whole') or return diag($@);
        (my $copy = "$site->{dir}/backup/tmp/copy-$name") =~ s/%//;
        copy_for_them($site, $live, $copy, $history);
        my $r = $site->{backup}->tool({ timeout => 100 }, 'ctl_backups', 'reindex', '-f', $copy);
        is($r->{rc}, 0, 'reindex accepts it') or diag("$r->{out}$r->{err}");
        like($r->{out}, qr/: ok$/m, 'reindex says ok');
        is($r->{err}, '', 'reindex has no complaint');
        is(scalar(() = $r->{out} =~ /^backup_append returned/mg),
            scalar(grep { $unknown{ $_->[2] } } @{ $history->{lines} }), 'but of verbs that are not theirs');

        my $ours = program('cyr_backup');
        my ($t, $o) = map { my $p = $_; eval { view($site, @{$p}) } // do { diag($@); undef } }
            ['cyr_backup', $copy], [$ours, $live];
        ok($t && $o, 'both answer') or return;
        my $x = expected($site, $history);
        no_differences('theirs have read every line', reading_differences($x, $t));
        no_differences('ours say the same', telling_differences($x->{noted}, $t, $o, $seen));
        # what is only seen when the clock has moved on meanwhile
        $seen->{$_} //= scalar keys %{ $x->{noted}{$_} } for grep { %{ $x->{noted}{$_} } } qw(since named);
        # our own index of the copy: the chunk that was added is in it
        (my $again = $copy) =~ s/copy-/again-/;
        run_cmd(cmd => [as_cyrus('cp', $copy, $again)]);
        no_differences('the same chunks', eval { chunk_differences($site, $history, 'cyr_backup', $ours, $copy, $again) }, $@ || ());
        is(list($site, 'cyr_backup', $copy, 'messages'), list($site, $ours, $live, 'messages'), 'the same list of messages');
        verify($site, $copy, $history, $x);
        restore($site, $copy, $t);
    };
}

# Their verify stops at its first objection. It may be to a chunk with a literal, or to the chunk
# that told of a mailbox which they have renamed and we have not.
sub verify
{
    my ($site, $copy, $history, $x) = @_;
    my $v = $site->{backup}->tool({ timeout => 100 }, 'ctl_backups', 'verify', '-f', $copy);
    my @objections = grep { !/: (?:ok|failed.*)$/ && /\S/ } split /\n/, "$v->{out}$v->{err}";
    my @bad = grep {
        /^data (?:length|checksum) mismatch for chunk (\d+):/ ? !$history->{literals}[$1]
            : /^chunk \d+ missing mailbox data for (\S+) / ? !$x->{noted}{named}{$1} : 1
    } @objections;
    no_differences('verify objects to nothing but that', @bad);
    is($v->{rc} != 0, @objections > 0, 'with a reason if it fails') or diag("exit $v->{rc}: $v->{out}$v->{err}");
    ok(@objections > 0 || !grep({ $_ } @{ $history->{literals} }), 'and it does object to literals')
        or diag("$v->{out}$v->{err}");
    return;
}

# A dry run of their restore names every mailbox, and as left out every message: those that are not
# expunged with -x, the others with -X.
sub restore
{
    my ($site, $copy, $theirs) = @_;
    my (@got, @want);
    my $boxes = $theirs->{mailboxes};
    for my $how (['-x', 'unexpunged'], ['-X', 'expunged']) {
        my $r = $site->{backup}->tool({ timeout => 100 }, 'restore', '-n', '-v', '-v', $how->[0], '-a', '-U', '-D',
            '-f', $copy, 'localhost');
        is($r->{rc}, 0, "dry run of restore $how->[0]") or diag("$r->{out}$r->{err}");
        push @got, "$how->[0] $2 of $1" while $r->{err} =~ /^(.*): trying to keep uidvalidity\(\d+\), uniqueid\((\S+)\)/mg;
        push @got, "$how->[0] $2 of $1" while $r->{err} =~ /^(.*): excluding $how->[1] message: ([0-9a-f]{40})$/mg;
        for my $id (keys %{$boxes}) {
            my $m = $boxes->{$id};
            push @want, map { "$how->[0] $_ of $m->{mboxname}" } $id, map { $_->{guid} }
                grep { defined $_->{expunged} == ($how->[0] eq '-X') } values %{ $m->{records} };
        }
    }
    my (%got, %want);
    $got{$_}++ for @got;
    $want{$_}++ for @want;
    no_differences('it names every mailbox and message', (map { "not named: $_" } grep { !$got{$_} } sort keys %want),
        map { "named: $_" } grep { !$want{$_} } sort keys %got);
    return;
}

# ---- themes ----------------------------------------------------------------------------------

# What themes want of their site: options of the mail server's imapd.conf, users.
my %wants = (
    Quota => { options => { sieve_maxscripts => 20, sieve_maxscriptsize => 1024 } },
    Immediate => { options => { delete_mode => 'immediate', expunge_mode => 'immediate' } },
    Expire => { options => {
        'partition-other' => '%dir%/other', archive_enabled => 'yes', archive_days => 1,
        'archivepartition-default' => '%dir%/archive', 'archivepartition-other' => '%dir%/archive-other',
    } },
    Dav => { options => {
        httpmodules => 'caldav carddav webdav', caldav_realm => 'test', conversations => 'yes', sievedir => '%dir%/sieve',
    } },
    Names => { users => ['j.doe@two.example', 'frank@two.example', 'alice', 'bob@one.example', 'frank@one.example'],
        options => {
            virtdomains => 'userid', unixhierarchysep => 'yes', altnamespace => 'yes',
            conversations => 'yes', conversations_db => 'twoskip',
        },
    },
);

# A site and a case for a theme.
sub theme_site
{
    my ($theme) = @_;
    my ($user, $reader, @others) = @{ $wants{$theme}{users} // [qw(alice frank)] };
    my $site = CBTest::Site->new(users => [$user, $reader, @others],
        options => { imap => $wants{$theme}{options} // {} });
    return ($site, CBTest::Case->new(site => $site, user => $user, reader => $reader, others => \@others));
}

# The steps of a theme, each followed by syncs from the rolling log, and now and then of everything;
# then every backup there is. DEFECTS: those of theirs that must show, and no other may.
sub run_upstream
{
    my ($theme, @defects) = @_;
    return subtest $theme => sub {
        my ($site, $c) = theme_site($theme);
        my $n = 0;
        for my $step (CBTest::Scenarios::steps_of($theme)) {
            delete @{$c}{qw(fails resend unlogged)};
            ok(eval { $step->[1]->($c, 'rolling'); 1 }, "done: $step->[0]") or diag($@);
            my @r = $site->sync_log_once('unix');
            push @r, $site->sync_log_once('unix') if $r[0]{rc} != 0;    # a piece of the log was left
            push @r, $site->sync('unix', '-A') if $c->{unlogged} || $n++ % 3 == 0;
            ok($c->{fails} || $r[-1]{rc} == 0, 'and synced') or diag("$r[-1]{out}$r[-1]{err}");
        }
        is($site->sync('unix', '-A')->{rc}, 0, 'a last sync');
        my %seen;
        compare_file($site, $_, \%seen) for $site->all_data_files;
        note("$seen{$_} times: $DEFECTS{$_}") for sort keys %seen;
        is(join(' ', sort keys %seen), join(' ', sort @defects), 'defects of theirs that show');
        memory_ok($site);
        $site->stop;
    };
}

1;
