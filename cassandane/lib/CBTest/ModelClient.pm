# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::ModelClient - replicates a CBTest::Model as sync_client of some version does: what it asks,
# what it concludes from the answer, how it repairs, what it gives up.
#
#     my $c = CBTest::ModelClient->new(model => $m, version => 30, connect => sub { ... });
#     my $ok = $c->pass('user', 'joe', 'jim');      # sync_client -u joe jim
#     my $ok = $c->pass('mailboxes', @names);       # sync_client -m ...
#     my $ok = $c->pass('rolling');                 # works off the model's log
#     $c->{applied}                                 # APPLY commands of the last pass
#
# Versions: 30, 32, 34, 36, 310, 312, 400 (what comes after 3.12).
package CBTest::ModelClient;
use strict;
use warnings;
use CBTest::Dlist qw(parse_dlist);
use CBTest::Feed qw(record_text file_item);
use CBTest::Model;

my $MODSEQS = qr/^(?:32|34|36|310|312|400)$/;

# Keys: model, version, connect (a function that returns a CBTest::CSync), batch (records of a
# partial MAILBOX, as 3.0 and 3.2 send them in rolling mode; 0: never).
sub new
{
    my ($class, %o) = @_;
    return bless { harm => [], trace => [], batch => 0, %o }, $class;
}

# ---- the connection -------------------------------------------------------

# {cut} => n: the n-th command from now is broken off in the middle.
sub command
{
    my ($self, $cmd) = @_;
    $self->{csync} //= $self->{connect}->();
    if ($self->{cut} && !--$self->{cut}) {
        my $n = int length($cmd) * ($self->{cut_at} // 0.5);
        $self->note("cut: $cmd");
        $self->{csync}->send_raw(substr $cmd, 0, $n);
        delete $self->{csync};
        die "cut\n";
    }
    my $r = $self->{csync}->command($cmd);
    $self->note($cmd, @{ $r->{lines} }, $r->{text});
    if ($cmd =~ /^APPLY (\S+)/ && $1 ne 'RESERVE' && $1 ne 'MESSAGE') {
        push @{ $self->{applied} }, $cmd;
    }
    $self->{failed} = $r->{text} if $r->{status} ne 'OK';
    return $r;
}

sub note
{
    my ($self, $cmd, @answer) = @_;
    my @short = map { substr(s/[\r\n]+/~/gr, 0, 500) } $cmd =~ s/^(APPLY MESSAGE .{300}).*/$1/sr, @answer;
    push @{ $self->{trace} }, 'C: ' . shift @short, map { "S: $_" } @short;
    return;
}

sub fail { my ($self, $why) = @_; $self->note("gives up: $why"); die "unit: $why\n" }

# The answer's mailboxes by UNIQUEID.
sub ask
{
    my ($self, $what) = @_;
    my $r = $self->command("GET $what");
    return {} if $r->{text} =~ /^NO IMAP_MAILBOX_NONEXISTENT /;
    $self->fail("GET: $r->{text}") if $r->{status} ne 'OK';
    my (%got, %names);
    for my $line (@{ $r->{lines} }) {
        my ($name, $v) = parse_dlist($line);
        next if $name ne 'MAILBOX';
        push @{ $self->{harm} }, "listed twice: $v->{UNIQUEID}" if $got{ $v->{UNIQUEID} };
        push @{ $self->{harm} }, "listed twice: $v->{MBOXNAME}" if $names{ $v->{MBOXNAME} }++;
        $got{ $v->{UNIQUEID} } = $v;
    }
    return \%got;
}

# ---- passes ---------------------------------------------------------------

# 1 if nothing failed.
sub pass
{
    my ($self, $mode, @what) = @_;
    $self->{applied} = [];
    @{ $self->{trace} } = @{ $self->{trace} }[-300 .. -1] if @{ $self->{trace} } > 300;
    $self->note("---- $mode @what");
    my $ok = 1;
    if ($mode eq 'user') {
        $ok &= $self->unit(sub { $self->unit_user($_[0]) }, $_) for @what;
    } elsif ($mode eq 'mailboxes') {
        $ok = $self->unit(sub { $self->unit_mailboxes(0, @_) }, @what);
    } else {
        $ok = $self->rolling;
    }
    eval { $self->command('EXIT') } if $self->{csync} && $mode ne 'rolling';
    delete $self->{csync} if $mode ne 'rolling';
    return $ok;
}

sub unit
{
    my ($self, $sub, @args) = @_;
    return 1 if eval { $sub->(@args); 1 };
    die $@ if $@ !~ /^(?:unit:|cut$)/;
    $self->{why} = $@;
    return 0;
}

# RESTART between units. An error promotes mailboxes to users; that of a user, or of a mailbox that
# has none, ends the pass, and the log stays.
sub rolling
{
    my ($self) = @_;
    my @log = @{ $self->{model}{log} };
    my (%groups, %users, %gone, $abort);
    for my $e (@log) {
        my ($what, @names) = @{$e};
        $gone{ $names[0] } = 1 if $what eq 'UNMAILBOX';
        next if $what ne 'MAILBOX';
        for my $owner (map { CBTest::Model::owner_of($_) // '' } @names) {
            $groups{ $self->{version} >= 34 ? $owner : 'all' }{$_} = 1 for @names;
        }
    }
    for my $group (sort keys %groups) {
        my @names = sort keys %{ $groups{$group} };
        push @names, $self->former(@names) if $self->{version} >= 36;
        if (!$self->unit(sub { $self->{rolling} = 1; $self->unit_mailboxes(0, @names) })) {
            return 0 if $self->{why} eq "cut\n";
            $users{$_} = 1 for grep { defined } map { CBTest::Model::owner_of($_) } @names;
            $abort = 1 if grep { !defined CBTest::Model::owner_of($_) } @names;
        }
        $self->{rolling} = 0;
        return 0 if !$self->unit(sub { $self->command('RESTART') });
    }
    return 0 if $abort;
    for my $name (sort keys %gone) {
        next if $self->{model}->named($name);
        next if $self->{version} >= 34 && !$self->{model}{dead_names}{$name};
        return 0 if !$self->unit(sub {
            my $r = $self->command("APPLY UNMAILBOX $name");
            $self->fail("UNMAILBOX: $r->{text}") if $r->{text} !~ /^(?:OK |NO IMAP_MAILBOX_NONEXISTENT )/;
        });
    }
    for my $user (sort keys %users) {
        return 0 if !$self->unit(sub { $self->unit_user($user); $self->command('RESTART') });
    }
    splice @{ $self->{model}{log} }, 0, scalar @log;
    push @{ $self->{model}{log} }, splice @{ $self->{again} // [] };
    return 1;
}

sub former
{
    my ($self, @names) = @_;
    return map { @{ $self->{model}{former}{ $_->{uniqueid} } // [] } }
        grep { defined } map { $self->{model}->named($_) } @names;
}

# ---- units ------------------------------------------------------------------

sub unit_user
{
    my ($self, $user) = @_;
    my $m = $self->{model};
    $self->{user} = $user;
    for my $round (1 .. 3) {
        my $listing = $self->ask("USER $user");
        if (!$m->named("user.$user")) {
            $self->command("APPLY UNUSER $user") if $self->{version} == 30;
            return;
        }
        my @names = map { $_->{name} } $m->of_user($user);
        if ($self->{version} >= 312) {
            push @names, $self->former(@names), map { $_->{MBOXNAME} } values %{$listing};
            $self->unit_mailboxes(1, @names);
            return;
        }
        return if !$self->folders($listing, 1, @names);
    }
    $self->fail('changed');
    return;
}

sub unit_mailboxes
{
    my ($self, $deleting, @names) = @_;
    $self->{user} = undef if !$deleting;
    for my $round (1 .. 3) {
        my $listing = $self->ask('MAILBOXES (' . join(' ', @names) . ')');
        return if !$self->folders($listing, $deleting, @names);
    }
    $self->fail('changed');
    return;
}

# What a unit does with a listing. 1 if it renamed and wants to ask again.
sub folders
{
    my ($self, $listing, $deleting, @names) = @_;
    my $m = $self->{model};
    my %seen;
    my @boxes = grep { defined && !$seen{ $_->{uniqueid} }++ } map { $m->named($_) } @names;
    $self->{known} = {};
    $self->reserve($listing, @boxes);
    for my $l (sort { $a->{MBOXNAME} cmp $b->{MBOXNAME} } values %{$listing}) {
        my $id = $l->{UNIQUEID};
        next if $seen{$id};
        if ($self->{version} >= 312 && $m->{boxes}{$id}) {
            push @boxes, $m->{boxes}{$id};
            $seen{$id} = 1;
            next;
        }
        next if !$self->may_remove($l, $deleting);
        my $r = $self->command("APPLY UNMAILBOX $l->{MBOXNAME}");
        $self->fail("UNMAILBOX: $r->{text}") if $r->{text} !~ /^(?:OK |NO IMAP_MAILBOX_NONEXISTENT )/;
        delete $listing->{$id};
    }
    my $renamed = $self->renames($listing, @boxes);
    return 1 if $renamed && $self->{version} >= 34;
    $self->mailbox($_, $listing->{ $_->{uniqueid} }) for @boxes;
    return 0;
}

sub may_remove
{
    my ($self, $l, $deleting) = @_;
    my ($v, $m) = ($self->{version}, $self->{model});
    return $deleting if $v <= 32;
    return $deleting && $m->{dead_names}{ $l->{MBOXNAME} } if $v <= 310;
    return 0 if $v == 400 && defined $self->{user}
        && (CBTest::Model::owner_of($l->{MBOXNAME}) // '') ne $self->{user};
    return $m->{dead_ids}{ $l->{UNIQUEID} };
}

sub reserve
{
    my ($self, $listing, @boxes) = @_;
    my @listed = map { $_->{MBOXNAME} } values %{$listing};
    return if !@listed;
    my %want;
    for my $box (@boxes) {
        my $from = ($listing->{ $box->{uniqueid} } // { LAST_UID => 0 })->{LAST_UID};
        $want{ $box->{partition} }{ $_->{guid} } = 1
            for grep { $_->{uid} > $from && !$_->{missing} } values %{ $box->{records} };
    }
    for my $partition (sort keys %want) {
        my @guids = sort keys %{ $want{$partition} };
        my $r = $self->command("APPLY RESERVE %(PARTITION $partition MBOXNAME (@listed) GUID (@guids))");
        $self->fail("RESERVE: $r->{text}") if $r->{status} ne 'OK';
        my %missing = map { $_ => 1 } map { @{ (parse_dlist($_))[1] } } @{ $r->{lines} };
        $self->{known}{$_} = 1 for grep { !$missing{$_} } @guids;
    }
    return;
}

# Ordered so that no target is occupied by something that is still to be renamed.
sub renames
{
    my ($self, $listing, @boxes) = @_;
    my @todo = grep {
        my $l = $listing->{ $_->{uniqueid} };
        $l && ($l->{MBOXNAME} ne $_->{name} || $l->{PARTITION} ne $_->{partition});
    } @boxes;
    my $done = 0;
    while (@todo) {
        my %busy = map { $listing->{ $_->{uniqueid} }{MBOXNAME} => $_->{uniqueid} } @todo;
        my ($next) = grep { ($busy{ $_->{name} } // $_->{uniqueid}) eq $_->{uniqueid} } @todo;
        my $to = $next && $next->{name};
        if (!$next) {
            $self->fail('renames go in a circle') if $self->{version} < 312;
            $next = $todo[0];
            $to = "$next->{name}-former";
        }
        my $l = $listing->{ $next->{uniqueid} };
        my $r = $self->command("APPLY RENAME %(OLDMBOXNAME $l->{MBOXNAME} NEWMBOXNAME $to"
            . " PARTITION $next->{partition} UIDVALIDITY $next->{uidvalidity})");
        $self->fail("RENAME: $r->{text}") if $r->{status} ne 'OK';
        @{$l}{qw(MBOXNAME PARTITION)} = ($to, $next->{partition});
        @todo = grep { $_ != $next } @todo if $to eq $next->{name};
        $done = 1;
    }
    return $done;
}

# ---- one mailbox ------------------------------------------------------------

sub header
{
    my ($self, $box) = @_;
    my @h = (UNIQUEID => $box->{uniqueid}, MBOXNAME => $box->{name}, SYNC_CRC => CBTest::Model::crc($box),
        SYNC_CRC_ANNOT => $self->{version} >= 32 ? 12345678 : 0, LAST_UID => $box->{last_uid},
        HIGHESTMODSEQ => $box->{hms}, RECENTUID => 0, RECENTTIME => 0, LAST_APPENDDATE => 0,
        POP3_LAST_LOGIN => 0, POP3_SHOW_AFTER => 0, UIDVALIDITY => $box->{uidvalidity},
        PARTITION => $box->{partition}, ACL => '"x'."\t".'lrs'."\t".'"', OPTIONS => 'P');
    push @h, CREATEDMODSEQ => 1, FOLDERMODSEQ => $box->{foldermodseq} if $self->{version} =~ $MODSEQS;
    return @h;
}

sub unchanged
{
    my ($self, $box, $l) = @_;
    my %h = $self->header($box);
    return 0 if grep { $h{$_} ne ($l->{$_} // 0) } qw(LAST_UID HIGHESTMODSEQ UIDVALIDITY);
    return 0 if grep { $h{$_} && $l->{$_} && $h{$_} != $l->{$_} } qw(SYNC_CRC SYNC_CRC_ANNOT);
    return 0 if $self->{version} =~ $MODSEQS && $l->{FOLDERMODSEQ} && $l->{FOLDERMODSEQ} != $h{FOLDERMODSEQ};
    return 1;
}

sub mailbox
{
    my ($self, $box, $l) = @_;
    return if $l && $self->unchanged($box, $l);
    my $higher = $l && $l->{UIDVALIDITY} > $box->{uidvalidity};
    if ($l && ($box->{gone_modseq} > $l->{HIGHESTMODSEQ} || ($higher && $self->{version} == 30))) {
        $self->repair($box);
        $self->last_try($box, $l);
        return;
    }
    if ($l && $self->{version} =~ $MODSEQS) {    # what is higher there is copied
        $box->{uidvalidity} = $l->{UIDVALIDITY} if $higher;
        $box->{foldermodseq} = $l->{FOLDERMODSEQ} if ($l->{FOLDERMODSEQ} // 0) > $box->{foldermodseq};
    }
    my $r = $self->send_box($box, $l, 1);
    return if $r->{status} eq 'OK';
    $self->fail("MAILBOX: $r->{text}") if $r->{text} !~ /^NO IMAP_SYNC_CHECKSUM /;
    $box->{crc_error} = 0 if !$box->{stubborn};    # it looks at its own numbers first
    if ($self->{version} >= 32) {
        if ($self->{version} >= 34) {
            $l = $self->ask("MAILBOXES ($box->{name})")->{ $box->{uniqueid} };
            return if $l && $self->unchanged($box, $l);
        }
        $r = $self->send_box($box, $l, 0);
        return if $r->{status} eq 'OK';
        $self->fail("MAILBOX again: $r->{text}") if $r->{text} !~ /^NO IMAP_SYNC_CHECKSUM /;
    }
    $self->repair($box);
    $self->last_try($box, $l);
    return;
}

sub last_try
{
    my ($self, $box, $l) = @_;
    $l = $self->ask("MAILBOXES ($box->{name})")->{ $box->{uniqueid} } if $self->{version} >= 34;
    my $r = $self->send_box($box, $l, 0);
    $self->fail("MAILBOX after repair: $r->{text}") if $r->{status} ne 'OK';
    return;
}

# GET FULLMAILBOX. Anything in the answer that would change the master is held against the server.
sub repair
{
    my ($self, $box) = @_;
    my $r = $self->command("GET FULLMAILBOX $box->{name}");
    $self->fail("FULLMAILBOX: $r->{text}") if $r->{status} ne 'OK';
    my @harm;
    push @harm, 'not one line' if @{ $r->{lines} } != 1;
    my (undef, $v) = parse_dlist($r->{lines}[0] // 'MAILBOX %(RECORD ())');
    push @harm, "has $_ $v->{$_}" for grep { $v->{$_} } qw(LAST_UID HIGHESTMODSEQ XCONVMODSEQ FOLDERMODSEQ SYNC_CRC);
    push @harm, 'records' if @{ $v->{RECORD} // ['none'] };
    push @harm, "UIDVALIDITY $v->{UIDVALIDITY}" if ($v->{UIDVALIDITY} // 0) > $box->{uidvalidity};
    push @{ $self->{harm} }, map { "FULLMAILBOX $box->{name}: $_" } @harm;
    return;
}

# MESSAGE and MAILBOX relative to a listing (undef: none).
sub send_box
{
    my ($self, $box, $l, $since) = @_;
    my ($uid, $modseq) = $l ? @{$l}{qw(LAST_UID HIGHESTMODSEQ)} : (0, 0);
    my %h = $self->header($box);
    my @order = map { $_ % 2 ? () : ($self->header($box))[$_] } 0 .. 2 * keys(%h) - 1;
    my @records = grep { $_->{modseq} > $modseq } map { $box->{records}{$_} }
        sort { $a <=> $b } keys %{ $box->{records} };
    if ($self->{batch} && $self->{rolling} && $self->{version} <= 32 && $box->{last_uid} > $uid + $self->{batch}) {
        $h{LAST_UID} = $uid + $self->{batch};
        @records = grep { $_->{uid} <= $h{LAST_UID} } @records;
        my @low = sort { $a <=> $b } grep { $_ } map { $_->{modseq} } grep { $_->{uid} > $h{LAST_UID} }
            values %{ $box->{records} };
        $h{HIGHESTMODSEQ} = $low[0] - 1 if @low && $low[0] - 1 < $h{HIGHESTMODSEQ};
        @records = map { { %{$_}, modseq => $_->{modseq} > $h{HIGHESTMODSEQ} ? $h{HIGHESTMODSEQ} : $_->{modseq} } } @records;
        $h{SYNC_CRC} = 0;
        @order = grep { $_ ne 'SYNC_CRC_ANNOT' } @order;
        push @{ $self->{again} }, [MAILBOX => $box->{name}];
        $since = 0;
    }
    $self->upload($box, $uid, @records);
    if ($since && $modseq && $self->{version} >= 32) {
        push @order, qw(SINCE_MODSEQ SINCE_CRC SINCE_CRC_ANNOT);
        @h{@order[-3 .. -1]} = ($modseq, map { $l->{$_} // 0 } qw(SYNC_CRC SYNC_CRC_ANNOT));
    }
    return $self->command('APPLY MAILBOX %(' . join(' ', map { ($_, $h{$_}) } @order) . ' RECORD ('
        . join(' ', map { record_text($_) } @records) . '))');
}

sub upload
{
    my ($self, $box, $uid, @records) = @_;
    my %once;
    my @need = grep { $_->{uid} > $uid && !$self->{known}{ $_->{guid} } && !$once{ $_->{guid} }++ } @records;
    return if !@need;
    my @items = map { $_->{missing} ? 'NIL' : file_item($self->{model}{bodies}{ $_->{guid} })
            =~ s/^%\{default/%{$box->{partition}/r } @need;
    my $r = $self->command("APPLY MESSAGE (@items)");
    $self->fail("MESSAGE: $r->{text}") if $r->{status} ne 'OK';
    $self->{known}{ $_->{guid} } = 1 for grep { !$_->{missing} } @need;
    return;
}

1;
