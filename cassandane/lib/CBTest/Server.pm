# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Server - what the live mail server has, asked in the two ways it can be asked:
# by_imap() says what a user can see, by_csync() what replication has to carry
# (expunged records, modseqs, virtual annotations). Neither has anything to do with
# the programs under test.
#
# A user named %SHARED stands for all mailboxes that belong to nobody.
package CBTest::Server;
use strict;
use warnings;
use CBTest::Util qw(sha1_hex slurp);
use Exporter 'import';
use Time::HiRes qw(lstat);
use Time::Local qw(timegm);
our @EXPORT_OK = qw(by_imap by_csync mailbox_names is_shared);

my %month;
@month{qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec)} = 0 .. 11;

# Mailbox annotations that IMAP is asked for.
our $UNIQUEID = '/vendor/cmu/cyrus-imapd/uniqueid';
my @asked = qw(/shared/comment /private/comment /private/specialuse /shared/vendor/cmu/cyrus-imapd/expire);
push @asked, "/shared$UNIQUEID";

sub is_shared { return $_[0] eq '%SHARED' }

# Internal names of all mailboxes of a user, those in DELETED too, as LIST gives them to an admin.
sub mailbox_names
{
    my ($site, $user) = @_;
    my $names = $site->names;
    my @patterns = ('*');
    if (!is_shared($user)) {
        my ($domain, $inbox) = $names->parts($names->inbox($user));
        @patterns = map { $names->for_admin(($domain eq '' ? '' : "$domain!") . $_) }
            $inbox, "$inbox.*", "DELETED.$inbox.*";
    }
    my @names;
    for my $pattern (@patterns) {
        my $list = $site->admin->must(list => '', $pattern);
        next unless ref $list;
        for my $item (@{$list}) {
            next if grep { /^\\(?:noselect|nonexistent)$/i } @{ $item->[0] };
            push @names, $names->from_admin($item->[2]);
        }
    }
    @names = grep { !/^(?:[^!.]+(?:\.[^!.]+)*!)?(?:DELETED\.)?user\./ } @names if is_shared($user);
    # Sieve scripts travel as APPLY SIEVE, IMAP has no way into their mailbox
    my %once;
    return grep { !/\.#sieve(?:\.|$)/ && !$once{$_}++ } sort @names;
}

# "22-Nov-2026 02:27:59 +0000" -> seconds
sub epoch
{
    my ($text) = @_;
    my ($d, $mon, $y, $h, $m, $s, $sign, $zh, $zm) =
        $text =~ /^\s*(\d+)-(\w+)-(\d+) (\d+):(\d+):(\d+) ([+-])(\d\d)(\d\d)$/
        or die "INTERNALDATE $text?\n";
    my $zone = ($zh * 60 + $zm) * 60;
    return timegm($s, $m, $h, $d, $month{$mon}, $y) - ($sign eq '-' ? -$zone : $zone);
}

# The state of a user by IMAP:
# { mailboxes => { name => {...} }, subscriptions => [...], quota => {...}, sieve => {...} }
sub by_imap
{
    my ($site, $user) = @_;
    my $names = $site->names;
    my %state;
    for my $name (mailbox_names($site, $user)) {
        my $own = !is_shared($user) && ($names->owner($name) // '') eq $user;
        my $imap = $own ? $site->imap_as($user) : $site->admin;
        $state{mailboxes}{$name} = mailbox($site, $imap,
            $own ? $names->for_user($user, $name) : $names->for_admin($name), $name, $own);
    }
    return \%state if is_shared($user);
    my $lsub = $site->imap_as($user)->must(lsub => '', '*');
    $state{subscriptions} = [sort map { $names->from_user($user, $_->[2]) }
        ref $lsub ? @{$lsub} : ()];
    my $seen = $site->imap_as($user)->must(list => '', '*');
    $state{visible} = { map { $names->from_user($user, $_->[2]) => 1 } ref $seen ? @{$seen} : () };
    $state{quota} = quota($site, sort keys %{ $state{mailboxes} });
    $state{sieve} = sieve_of($site, $user, ($state{mailboxes}{ $names->inbox($user) } // {})->{uniqueid});
    return \%state;
}

sub mailbox
{
    my ($site, $imap, $name, $internal, $own) = @_;
    my $m = header($site, $imap, $name, $internal, $own);
    return $m unless delete $m->{messages};

    if (!eval { $imap->must(examine => $name); 1 }) {
        die $@ if $@ !~ /Invalid mailbox type/;
        @{$m}{qw(typed records)} = (1, on_disk($site, $internal));
        return $m;
    }
    $m->{records} = messages($imap);
    $imap->must('unselect');
    return $m;
}

# All of a mailbox but its messages; how many there are, if any, is in {messages}.
sub header
{
    my ($site, $imap, $name, $internal, $own) = @_;
    my $st = $imap->must(status => $name, '(UIDVALIDITY HIGHESTMODSEQ UIDNEXT MESSAGES)');
    my $notes = metadata($imap, $name, $own);
    my %m = (
        own => $own ? $imap->{user} : undef,    # whose it is
        uniqueid => delete $notes->{"$UNIQUEID\0"},
        annotations => $notes,
        uidvalidity => $st->{uidvalidity},
        highestmodseq => $st->{highestmodseq},
        last_uid => $st->{uidnext} - 1,
        records => {},
        $st->{messages} ? (messages => $st->{messages}) : (),
    );
    my $acl = $site->admin->must(getacl => $site->names->for_admin($internal));
    $m{acl} = { ref $acl eq 'HASH' ? %{$acl} : @{$acl} };
    return \%m;
}

# The messages of the mailbox that is selected; with SINCE, those with a greater modseq.
sub messages
{
    my ($imap, $since) = @_;
    my %records;
    my $msgs = $imap->must(fetch => '1:*',
        '(FLAGS INTERNALDATE RFC822.SIZE MODSEQ BODY.PEEK[] ANNOTATION (/comment (value.shared value.priv)))'
        . (defined $since ? " (CHANGEDSINCE $since)" : ''));
    for my $uid (ref $msgs ? keys %{$msgs} : ()) {
        my $f = $msgs->{$uid};
        my $note = $f->{annotation}{'/comment'} // {};
        $records{$uid} = {
            flags => [sort grep { lc ne '\\recent' } map { $_ // 'NIL' } @{ $f->{flags} }],
            internaldate => epoch($f->{internaldate}),
            size => $f->{'rfc822.size'},
            modseq => ref $f->{modseq} ? $f->{modseq}[0] : $f->{modseq},
            sha1 => sha1_hex($f->{body}),
            header => (split /\r?\n\r?\n/, $f->{body}, 2)[0],
            shared_note => $note->{'value.shared'},
            private_note => $note->{'value.priv'},
        };
    }
    return \%records;
}

# Calendars and the like cannot be read by IMAP: their live messages as files of the spool.
sub on_disk
{
    my ($site, $internal) = @_;
    my $got = $site->source_csync->get('FULLMAILBOX ' . quoted($internal));
    my $dir = $site->{imap}->tool('mbpath', $site->names->for_admin($internal))->{out};
    chomp $dir;
    my %records;
    for my $r (@{ $got->{MAILBOX}[0]{RECORD} }) {
        next if grep { lc eq '\\expunged' } @{ $r->{FLAGS} };
        my $bytes = slurp("$dir/$r->{UID}.") // die "$dir/$r->{UID}.: $!\n";
        $records{ $r->{UID} } = {
            size => length $bytes, sha1 => sha1_hex($bytes),
            header => (split /\r?\n\r?\n/, $bytes, 2)[0],
        };
    }
    return \%records;
}

# { "entry\0userid-or-empty" => value }; private entries belong to whoever asks.
sub metadata
{
    my ($imap, $name, $own) = @_;
    my $got = $imap->must(getmetadata => $name, $own ? @asked : grep { /^.shared/ } @asked);
    my %annotations;
    my ($of) = ref $got eq 'HASH' ? $got->{$name} // grep { ref eq 'HASH' } values %{$got} : ();
    for my $entry (keys %{ $of // {} }) {
        my $value = $of->{$entry} // next;
        my ($scope, $rest) = $entry =~ m{^/(shared|private)(/.*)$} or next;
        $annotations{ "$rest\0" . ($scope eq 'private' ? $imap->{user} : '') } = $value;
    }
    return \%annotations;
}

# { root => { STORAGE => limit } }
sub quota
{
    my ($site, @names) = @_;
    my %quota;
    for my $name (@names) {
        next unless defined $site->names->owner($name);
        my $got = $site->admin->must(getquotaroot => $site->names->for_admin($name));
        for my $root (grep { $_ ne 'quotaroot' } ref $got eq 'HASH' ? keys %{$got} : ()) {
            my @list = @{ $got->{$root} };
            $quota{ $site->names->from_admin($root) } //= {};
            while (my ($resource, $used, $limit) = splice @list, 0, 3) {
                $quota{ $site->names->from_admin($root) }{ uc $resource } = $limit;
            }
        }
    }
    return \%quota;
}

# { name => { content, active } }
sub sieve
{
    my ($site, $user) = @_;
    my $client = $site->sieve_as($user);
    my %active = $client->list;
    return { map { $_ => { content => $client->get($_), active => $active{$_} } } keys %active };
}

# What shows that scripts have changed. Everything below their directory: each has its bytecode there, made
# anew with it, and the link to the active one. But a script that is deleted leaves its bytecode behind: it
# only goes from the database of the user, dav.db.
sub sieve_files
{
    my ($site) = @_;
    my ($sieve, $conf) = map { "$site->{imap}{dir}/$_" } qw(sieve conf);
    my @dirs = ($sieve, grep { -d } "$conf/user", "$conf/domain");
    my @seen;
    while (defined(my $d = shift @dirs)) {
        opendir my $dh, $d or return undef;
        for my $path (map { "$d/$_" } sort grep { !/^\.\.?\z/ } readdir $dh) {
            my @st = lstat $path or next;    # gone meanwhile
            push @dirs, $path if -d _;
            next unless index($path, "$sieve/") == 0 || $path =~ m{/dav\.db\z};
            push @seen, join ' ', $path, @st[0, 1, 2, 7], map { sprintf '%.9f', $_ } @st[9, 10];
        }
    }
    return join "\n", @seen;
}

# The scripts of a user. Each connection costs a process of the server, so it is only asked when
# something has changed, or somebody else is called so. (A connection that is kept would hold up
# changes.) OWNER is the UNIQUEID of the INBOX.
sub sieve_of
{
    my ($site, $user, $owner) = @_;
    my $files = sieve_files($site);
    my $known = $site->{scripts}{$user};
    return $known->{scripts}
        if $known && defined $files && defined $owner && $known->{owner} eq $owner && $known->{files} eq $files;
    my $scripts = sieve($site, $user);
    # What the first login of a user makes counts as well.
    $files = sieve_files($site);
    if (defined $files && defined $owner) {
        $site->{scripts}{$user} = { owner => $owner, files => $files, scripts => $scripts };
    } else {
        delete $site->{scripts}{$user};
    }
    return $scripts;
}

# The state of a user as the server's own replication has it:
# { MAILBOX => { name => {... RECORD => { uid => {...} } } }, LSUB, SIEVE, SEEN, QUOTA }
sub by_csync
{
    my ($site, $user) = @_;
    my $c = $site->source_csync;
    my $got = is_shared($user)
        ? $c->get('MAILBOXES (' . join(' ', map { quoted($_) } mailbox_names($site, $user)) . ')')
        : $c->get("USER $user");
    my %mailboxes;
    for my $m (@{ $got->{MAILBOX} // [] }) {
        next if ($m->{MBOXTYPE} // '') =~ /i/ || $m->{MBOXNAME} =~ /\.#sieve$/;
        my $full = $c->get('FULLMAILBOX ' . quoted($m->{MBOXNAME}));
        my %records = map { $_->{UID} => $_ } @{ $full->{MAILBOX}[0]{RECORD} };
        $mailboxes{ $m->{MBOXNAME} } = { %{$m}, RECORD => \%records };
    }
    return { %{$got}, MAILBOX => \%mailboxes };
}

sub quoted
{
    my ($name) = @_;
    return $name =~ /^[A-Za-z0-9._#&+-]+$/ ? $name : sprintf "{%d+}\r\n%s", length $name, $name;
}

1;
