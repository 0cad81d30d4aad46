# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Compare - is the backup of a user what the live server has?
# differences() asks the server by IMAP and by csync (CBTest::Server), asks the backup by
# cyr_backup and by csync, and returns every difference as one readable line.
package CBTest::Compare;
use strict;
use warnings;
use CBTest::Server qw(by_imap by_csync is_shared);
use CBTest::Util qw(is_debian sha1_hex);
use Encode ();
use Exporter 'import';
use JSON;
our @EXPORT_OK = qw(differences backup_json backup_state crc_differences foreign_mail uid_set);

my %virtual = map { ("/vendor/cmu/cyrus-imapd/$_" => 1) } qw(thrid basethrid savedate createdmodseq);

# What Debian's backupd never lists; only for running this library against it.
my %unlisted = map { $_ => 1 } qw(FOLDERMODSEQ CREATEDMODSEQ);

# Everything `cyr_backup USER json WHAT` says, strings as bytes. Dies when it fails.
sub backup_json
{
    my ($site, $user, @what) = @_;
    my $r = $site->cyr_backup($user, 'json', @what);
    die "cyr_backup $user json @what: exit $r->{rc}: $r->{err}\n" if $r->{rc} != 0;
    return decode($r->{out});
}

sub decode
{
    my ($text) = @_;
    my $data = eval { JSON->new->utf8->decode($text) };
    die "not JSON: $@" . substr($text, 0, 300) . "\n" if $@;
    return bytes($data);
}

sub bytes
{
    my ($d) = @_;
    return { map { $_ => bytes($d->{$_}) } keys %{$d} } if ref $d eq 'HASH';
    return [map { bytes($_) } @{$d}] if ref $d eq 'ARRAY';
    utf8::encode($d) if defined $d && !ref $d;
    return $d;
}

sub backup_state
{
    my ($site, $user) = @_;
    return backup_json($site, $user, 'all');
}

# All differences. Options: skip => { quota | sieve | subscriptions | seen => 1 },
# full => 1: read every message again, not only those not yet read by this site.
# kept => { name => 1 }: deleted mailboxes that the server has removed without telling anybody;
# they must be in the backup.
# contents => 'datafile': read messages with zcat instead of one by one with cyr_backup.
# compacted => 1: the backup may have forgotten what was expunged long ago.
sub differences
{
    my ($site, $user, %o) = @_;
    my @d;
    my $imap = by_imap($site, $user);
    my $source = by_csync($site, $user);
    $site->{ever}{$user}{$_} = 1 for guids($source);
    push @d, listing_differences($site, $user, $source, %o);
    push @d, content_differences($site, $user, $imap, %o);
    if ($o{classic} || is_debian()) {
        push @d, classic_differences($site, $user, $imap);
    }
    if (!is_debian()) {
        my $backup = backup_state($site, $user);
        push @d, crc_differences($backup);
        push @d, imap_differences($site->names, $user, $imap, $backup, %o);
        push @d, csync_differences($source, $backup, %o);
        push @d, seen_differences($site, $user, $backup) if !is_shared($user);
        my %there = map { $_->{mboxname} => 1 } @{ $backup->{mailboxes} };
        push @d, map { "$_ has gone" } grep { !$there{$_} } sort keys %{ $o{kept} // {} };
    }
    return grep { !(/ (\S.*): only in the backup\z/ && ($o{kept} // {})->{ $1 =~ s/.* //r }) } @d;
}

# One value against another, as a line of text when they differ.
sub differ
{
    my ($what, $server, $backup) = @_;
    $_ //= '(none)' for $server, $backup;
    return if $server eq $backup;
    my @shown = map { length $_ > 300 ? substr($_, 0, 300) . '... (' . length($_) . ' bytes)' : $_ }
        $server, $backup;
    return "$what: server has '$shown[0]', backup has '$shown[1]'";
}

# The same for what JSON can only give as text: bytes that are not UTF-8 are U+FFFD there. (That
# the bytes are kept is seen in the listing.)
sub differ_text
{
    my ($what, @sides) = @_;
    for my $side (grep { defined } @sides) {
        $side = Encode::encode('UTF-8', Encode::decode('UTF-8', $side));
        $side =~ s/(?:\xef\xbf\xbd)+/\xef\xbf\xbd/g;
    }
    return differ($what, @sides);
}

# Two hashes: names that only one side has, then a comparison of each pair.
sub pairs
{
    my ($what, $server, $backup, $each) = @_;
    my @d;
    push @d, map { "$what $_: not in the backup" } grep { !exists $backup->{$_} } sort keys %{$server};
    push @d, map { "$what $_: only in the backup" } grep { !exists $server->{$_} } sort keys %{$backup};
    for my $key (grep { exists $backup->{$_} } sort keys %{$server}) {
        push @d, $each->("$what $key", $server->{$key}, $backup->{$key}, $key);
    }
    return @d;
}

sub flags
{
    my ($list) = @_;
    return join ' ', sort grep { lc ne '\\expunged' } map { $_ // 'NIL' } @{ $list // [] };
}

# ---- the backup's answer to GET USER against the server's -----------------
# QUOTAROOT is left out: sync_client does not compare it, so it tells of a change only
# when something else in the mailbox has changed too.

sub listing_differences
{
    my ($site, $user, $source, %o) = @_;
    my $c = $site->backup_csync;
    my $got = is_shared($user)
        ? $c->get('MAILBOXES (' . join(' ', map { CBTest::Server::quoted($_) }
            sort keys %{ $source->{MAILBOX} }) . ')')
        : $c->get("USER $user");
    my %listed = map { $_->{MBOXNAME} => $_ }
        grep { ($_->{MBOXTYPE} // '') !~ /[if]/ } @{ $got->{MAILBOX} // [] };
    my @d = pairs('listing of', $source->{MAILBOX}, \%listed, sub {
        my ($what, $s, $b) = @_;
        return map { differ("$what $_", text($s->{$_}), text($b->{$_})) }
            grep { !/^(?:RECORD|QUOTAROOT|SINCE_.*)$/ && !(is_debian() && $unlisted{$_}) } sort keys %{$s};
    });
    return @d if is_shared($user);

    my $subs = sub { my ($g) = @_; return join ' ', sort map { @{$_} } @{ $g->{LSUB} // [] } };
    push @d, differ('listed LSUB', $subs->($source), $subs->($got)) unless $o{skip}{subscriptions};
    my $quotas = sub {
        my ($g) = @_;
        return join ' ', sort map { my $q = $_; text({ map { $_ => $q->{$_} } grep { !/MODSEQ/ } keys %{$q} }) }
            @{ $g->{QUOTA} // [] };
    };
    push @d, differ('listed QUOTA', $quotas->($source), $quotas->($got)) unless $o{skip}{quota};
    my $sieve = sub {
        my ($g) = @_;
        return join ' ', sort map { "$_->{FILENAME}:" . ($_->{GUID} // '') }
            grep { $_->{FILENAME} =~ /\.script$/ } @{ $g->{SIEVE} // [] };
    };
    push @d, differ('listed SIEVE', $sieve->($source), $sieve->($got)) unless $o{skip}{sieve};
    return @d;
}

# A dlist value in one canonical line, without the empty and the zero ones of a header.
sub text
{
    my ($v) = @_;
    return undef unless defined $v;
    return '(' . join(' ', map { text($_) // 'NIL' } @{$v}) . ')' if ref $v eq 'ARRAY';
    return '%(' . join(' ', map { "$_ " . (text($v->{$_}) // 'NIL') } sort keys %{$v}) . ')'
        if ref $v eq 'HASH';
    return $v;
}

# ---- what a user sees against json all ------------------------------------

sub imap_differences
{
    my ($names, $user, $imap, $backup, %o) = @_;
    my %b = map { $_->{mboxname} => $_ } grep { ($_->{mboxtype} // '') !~ /[if]/ } @{ $backup->{mailboxes} };
    my @d = pairs('mailbox', $imap->{mailboxes}, \%b, \&imap_mailbox);
    return @d if is_shared($user);
    push @d, differ('userid', $user, $backup->{userid});
    # LSUB keeps silent about what does not exist any more
    my @subscribed = grep { ($names->owner($_) // '') eq $user ? $b{$_} : $imap->{visible}{$_} }
        @{ $backup->{subscriptions} };
    push @d, differ('subscriptions', join(' ', @{ $imap->{subscriptions} }), join(' ', sort @subscribed))
        unless $o{skip}{subscriptions};
    if (!$o{skip}{quota}) {
        my $words = sub {    # LIMIT is the old name of STORAGE
            my ($q) = @_;
            return join ' ', map { "$_=$q->{$_}" }
                sort grep { !/^(?:LIMIT|MODSEQ)$/ && ($q->{$_} // -1) != -1 } keys %{$q};
        };
        my %q = map { $_->{root} => $_->{limits} } @{ $backup->{quota} };
        push @d, pairs('quota of', $imap->{quota}, \%q, sub {
            my ($what, $s, $q) = @_;
            return differ($what, $words->($s), $words->($q));
        });
    }
    push @d, sieve_differences($imap->{sieve}, $backup->{sieve}) unless $o{skip}{sieve};
    return @d;
}

sub imap_mailbox
{
    my ($what, $s, $b) = @_;
    my @d = map { differ("$what $_", $s->{$_}, $b->{$_}) } qw(uniqueid uidvalidity highestmodseq last_uid);
    my %acl = split /\t/, $b->{acl};
    my $rights = sub { return join '', sort grep { !/[cd]/ } split //, $_[0] };
    push @d, pairs("$what ACL", $s->{acl}, \%acl, sub {
        my ($w, $server, $backup) = @_;
        return differ($w, $rights->($server), $rights->($backup));
    });
    my %notes = map { ("$_->{entry}\0" . ($_->{userid} // '') => $_->{value}) } @{ $b->{annotations} };
    for my $key (sort keys %{ $s->{annotations} }) {
        (my $name = $key) =~ s/\0/ of /;
        push @d, differ("$what annotation $name", $s->{annotations}{$key}, $notes{$key});
    }
    my %live = map { $_->{uid} => $_ } grep { !$_->{expunged} } @{ $b->{records} };
    push @d, pairs("$what uid", $s->{records}, \%live, sub { return imap_record($s, @_) });
    return @d;
}

# \Seen in another's or nobody's mailbox is the reader's affair, so it is compared for owners only.
sub imap_record
{
    my ($mailbox, $what, $s, $b) = @_;
    return (differ("$what size", $s->{size}, $b->{size}), differ("$what content", $s->{sha1}, $b->{guid}))
        if $mailbox->{typed};
    my @d = map { differ("$what $_", $s->{$_}, $b->{$_}) } qw(internaldate size modseq);
    push @d, differ("$what content", $s->{sha1}, $b->{guid});
    my @flags = map { flags($_) } $s->{flags}, $b->{flags};
    if (!$mailbox->{own}) {
        s/ ?\\Seen\b// for @flags;
        s/^ // for @flags;
    }
    push @d, differ("$what flags", @flags);
    my %note = map { ($_->{userid} // '') => $_->{value} }
        grep { $_->{entry} eq '/comment' } @{ $b->{annotations} };
    push @d, differ_text("$what shared note", $s->{shared_note}, $note{''});
    push @d, differ_text("$what private note", $s->{private_note}, $note{ $mailbox->{own} }) if $mailbox->{own};
    return @d;
}

sub sieve_differences
{
    my ($server, $backup) = @_;
    my (%scripts, %active);
    for my $s (@{$backup}) {
        (my $base = $s->{filename}) =~ s/\.(script|bc)$//;
        $active{$base} = 1 if $s->{active};
        $scripts{$base} = $s if $s->{filename} =~ /\.script$/;
    }
    return pairs('script', $server, \%scripts, sub {
        my ($what, $s, $b, $name) = @_;
        return (differ("$what content", $s->{content}, $b->{content}),
            differ("$what guid", sha1_hex($s->{content}), $b->{guid}),
            differ("$what active", $s->{active} ? 1 : 0, $active{$name} ? 1 : 0));
    });
}

# ---- what replication carries against json all ----------------------------

sub csync_differences
{
    my ($source, $backup, %o) = @_;
    my %b = map { $_->{mboxname} => $_ } grep { ($_->{mboxtype} // '') !~ /[if]/ } @{ $backup->{mailboxes} };
    my @d = pairs('csync', $source->{MAILBOX}, \%b, sub {
        my ($what, $s, $m) = @_;
        my @md = map { differ("$what $_", $s->{ uc $_ } // '', $m->{$_} // '') }
            qw(uniqueid mboxtype partition uidvalidity last_uid highestmodseq recentuid acl options
            sync_crc sync_crc_annot);
        push @md, pairs("$what annotation", note_hash($s->{ANNOTATIONS}), note_hash($m->{annotations}), \&differ_text);
        return (@md, record_differences($what, $s->{RECORD}, $m->{records}, %o));
    });
    push @d, differ('csync subscriptions', join(' ', sort map { @{$_} } @{ $source->{LSUB} // [] }),
        join(' ', sort @{ $backup->{subscriptions} })) unless $o{skip}{subscriptions};
    if (!$o{skip}{seen}) {
        my %s = map { $_->{UNIQUEID} => "$_->{LASTREAD} $_->{LASTUID} $_->{LASTCHANGE} $_->{SEENUIDS}" }
            @{ $source->{SEEN} // [] };
        my %n = map { $_->{uniqueid} => "$_->{lastread} $_->{lastuid} $_->{lastchange} $_->{seenuids}" }
            @{ $backup->{seen} };
        push @d, pairs('seen', \%s, \%n, \&differ);
    }
    return @d;
}

# Annotations of either side, virtual ones too: { entry of user => value }.
sub note_hash
{
    my ($list) = @_;
    return { map {
        my ($e, $u, $v) = exists $_->{ENTRY} ? @{$_}{qw(ENTRY USERID VALUE)} : @{$_}{qw(entry userid value)};
        (sprintf('%s of %s', $e, $u // '') => $v);
    } @{ $list // [] } };
}

sub record_differences
{
    my ($mailbox, $server, $list, %o) = @_;
    my %backup = map { $_->{uid} => $_ } @{$list};
    my @d;
    push @d, "$mailbox: the backup has a uid twice" if keys %backup != @{$list};
    # what the server has forgotten may live on in the backup, but not as a live message
    for my $uid (grep { !$server->{$_} } sort keys %backup) {
        push @d, "$mailbox uid $uid: alive in the backup only" unless $backup{$uid}{expunged};
        delete $backup{$uid};
    }
    my $expunged = sub { return scalar grep { lc eq '\\expunged' } grep { defined } @{ $_[0]{FLAGS} } };
    my %known = map { $_ => $server->{$_} }
        grep { !$o{compacted} || $backup{$_} || !$expunged->($server->{$_}) } keys %{$server};
    push @d, pairs("$mailbox uid", \%known, \%backup, sub {
        my ($what, $s, $b) = @_;
        my $gone = $expunged->($s);
        my %b = %{$b};
        # the backup says when a message was expunged, not what became of the record later
        for my $key ($gone && $b->{expunged} ? qw(modseq last_updated) : ()) {
            $b{$key} = $s->{ uc $key } if $b{$key} < $s->{ uc $key };
        }
        return ((map { differ("$what $_", $s->{ uc $_ }, $b{$_}) }
                qw(modseq last_updated internaldate size guid)),
            differ("$what flags", flags($s->{FLAGS}), flags($b->{flags})),
            differ("$what expunged", $gone ? 1 : 0, $b->{expunged} ? 1 : 0),
            pairs("$what annotation", note_hash($s->{ANNOTATIONS}), note_hash($b->{annotations}), \&differ_text));
    });
    return @d;
}

# Every mailbox's CRC over the backup's own records must be the client's.
sub crc_differences
{
    my ($backup) = @_;
    return map { "$_->{mboxname}: sync_crc $_->{sync_crc}, computed $_->{computed_sync_crc}" }
        grep { $_->{sync_crc} != $_->{computed_sync_crc} } @{ $backup->{mailboxes} };
}

# "1:3,7" -> (1, 2, 3, 7)
sub uid_set
{
    my ($set) = @_;
    return map { /^(\d+):(\d+)$/ ? ($1 .. $2) : $_ } split /,/, $set // '';
}

# What the reader sees as \Seen in mailboxes of others must be in the seen records.
sub seen_differences
{
    my ($site, $user, $backup) = @_;
    my %seen = map { $_->{uniqueid} => $_ } @{ $backup->{seen} };
    my $imap = $site->imap_as($user);
    my @d;
    for my $item (@{ $imap->must(list => '', '*') }) {
        my ($flags, undef, $name) = @{$item};
        next if ($site->names->owner($site->names->from_user($user, $name)) // '') eq $user
            || grep { /^\\no(?:select|nexistent)$/i } @{$flags};
        my $id = CBTest::Server::metadata($imap, $name, 0)->{"$CBTest::Server::UNIQUEID\0"};
        my $record = $seen{ $id // '' } // next;
        $imap->must(examine => $name);
        my $uids = $imap->must(search => 'seen');
        my $all = $imap->must(search => 'all');
        $imap->must('unselect');
        my %there = map { $_ => 1 } ref $all ? @{$all} : ();
        push @d, differ("\\Seen of $user in $name", join(',', sort { $a <=> $b } ref $uids ? @{$uids} : ()),
            join(',', grep { $there{$_} } uid_set($record->{seenuids})));
    }
    return @d;
}

# ---- message content ------------------------------------------------------

sub content_differences
{
    my ($site, $user, $imap, %o) = @_;
    my @d;
    delete $site->{dumped}{$user} if $o{full};
    my $known = $site->{dumped}{$user} //= {};
    if (($o{contents} // '') eq 'datafile') {
        $known = stored_messages($site, $user);
        push @d, map { "data file of $user: content of $_ is of $known->{$_}" }
            grep { $_ ne $known->{$_} } sort keys %{$known};
    }
    for my $name (sort keys %{ $imap->{mailboxes} }) {
        for my $r (values %{ $imap->{mailboxes}{$name}{records} }) {
            next if $known->{ $r->{sha1} };
            my $got = $site->cyr_backup($user, 'dump', 'message', $r->{sha1});
            if ($got->{rc} != 0) {
                push @d, "dump of $r->{sha1} ($name): exit $got->{rc}: $got->{err}";
            } elsif (sha1_hex($got->{out}) ne $r->{sha1}) {
                push @d, "dump of $r->{sha1} ($name): other bytes, " . length($got->{out})
                    . " of them instead of $r->{size}";
            } else {
                $known->{ $r->{sha1} } = 1;
            }
        }
    }
    return @d;
}

# { GUID that a message has in the data file => SHA-1 of the bytes that zcat shows }
sub stored_messages
{
    my ($site, $user) = @_;
    my %stored;
    my $file = $site->data_file($user) // return \%stored;
    open my $z, '-|', 'zcat', $file or die "zcat: $!";
    binmode $z;
    while (my $line = readline $z) {
        $line =~ /%\{\S+ ([0-9a-f]{40}) (\d+)\}\r?\n\z/ or next;
        my ($guid, $size) = ($1, $2);
        read($z, my $bytes, $size) == $size or die "zcat $file: message $guid is cut short\n";
        $stored{$guid} = sha1_hex($bytes);
    }
    close $z or die "zcat $file: exit " . ($? >> 8) . "\n";
    return \%stored;
}

# ---- the classic forms: json mailboxes, messages, headers ------------------

sub classic_differences
{
    my ($site, $user, $imap) = @_;
    # mailboxes of the past are in here, too
    my %now = is_debian() ? () : map { $_->{uniqueid} => 1 } @{ backup_state($site, $user)->{mailboxes} };
    my %b = map { $_->{mboxname} => $_ } grep { is_debian() || $now{ $_->{uniqueid} } }
        @{ backup_json($site, $user, 'mailboxes') };
    my @d = pairs('classic', $imap->{mailboxes}, \%b, sub {
        my ($what, $s, $m) = @_;
        my %live = map { $_->{uid} => $_->{guid} } grep { !$_->{expunged} } @{ $m->{messages} // [] };
        my %want = map { $_ => $s->{records}{$_}{sha1} } keys %{ $s->{records} };
        return (differ("$what uniqueid", $s->{uniqueid}, $m->{uniqueid}),
            pairs("$what uid", \%want, \%live, \&differ));
    });
    my (%where, %header);
    for my $name (keys %{ $imap->{mailboxes} }) {
        for my $r (values %{ $imap->{mailboxes}{$name}{records} }) {
            $where{ $r->{sha1} }{$name} = 1;
            $header{ $r->{sha1} } = $r->{header};
        }
    }
    my %messages = map { $_->{guid} => $_ } @{ backup_json($site, $user, 'messages') };
    for my $guid (sort keys %where) {
        my %in = map { $_->{mboxname} => 1 } @{ $messages{$guid}{mailboxes} // [] };
        push @d, map { "json messages: $guid not in $_" } grep { !$in{$_} } sort keys %{ $where{$guid} };
    }
    return @d unless %header;
    my $got = backup_json($site, $user, 'headers', sort keys %header);
    for my $guid (sort keys %header) {
        my ($subject) = $header{$guid} =~ /^Subject: ([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)/m;
        s/\r\n//g, s/[ \t]+\z// for grep { defined } $subject;
        push @d, differ("json headers $guid Subject", $subject, $got->{$guid}{Subject}[0]);
    }
    return @d;
}

# All messages that mailboxes of a by_csync() refer to.
sub guids
{
    my ($source) = @_;
    return map { $_->{GUID} } map { values %{ $_->{RECORD} } } values %{ $source->{MAILBOX} };
}

# Content in a user's backup that no mailbox of that user refers to, nor did when the user was
# compared before: somebody else's mail. Looks at `list messages` and at what zcat shows.
sub foreign_mail
{
    my ($site, $user, $source) = @_;
    my %own = map { $_ => 1 } guids($source // by_csync($site, $user)), keys %{ $site->{ever}{$user} // {} };
    my $r = $site->cyr_backup($user, 'list', 'messages');
    return "list messages of $user: exit $r->{rc}: $r->{err}" if $r->{rc} != 0;
    my @d = map { "list messages of $user: $_ is not theirs" } grep { !$own{$_} } split /\n/, $r->{out};
    my $file = $site->data_file($user) // return (@d, "no data file of $user");
    open my $z, '-|', 'zcat', $file or die "zcat: $!";
    binmode $z;
    while (my $line = readline $z) {
        while ($line =~ /%\{\S+ ([0-9a-f]{40}) \d+\}\r?$/mg) {
            push @d, "data file of $user: $1 is not theirs" unless $own{$1};
        }
    }
    close $z or push @d, "zcat $file: exit " . ($? >> 8);
    return @d;
}

1;
