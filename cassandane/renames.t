#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# RENAME, UNMAILBOX and UNUSER: mailboxes that go elsewhere, end, and come back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Feed qw(message);
use CBTest::Holder;
use CBTest::Dialogue qw($OK $CHECKSUM $CHANGED $LOCKED $NONE @VERSIONS);
use Test::More;

my $t = CBTest::Dialogue->new;

sub filled
{
    my ($name, $n, %o) = @_;
    my $box = CBTest::Feed->new(mboxname => $name, %o);
    $box->append(message("$name $_ $box->{uniqueid}")) for 1 .. $n;
    return $box;
}

sub rename_box
{
    my ($box, $to, %o) = @_;
    my $from = $box->{mboxname};
    $box->{mboxname} = $to if !$o{only_say};
    return "APPLY RENAME %(OLDMBOXNAME $from NEWMBOXNAME $to PARTITION " . ($o{partition} // 'default')
        . ' UIDVALIDITY ' . ($o{uidvalidity} // $box->{uidvalidity}) . ')';
}

# The delta that follows a RENAME, as a version sends it. OLD: what it was shown before.
sub follow_up
{
    my ($version, $box, $old, $label) = @_;
    my $l = $old;
    if (CBTest::Dialogue::asks_again($version)) {
        $l = $t->listed($box);
        is($l && $l->{MBOXNAME}, $box->{mboxname}, "$label: listed under the new name");
    }
    $box->{modseq}++;
    $t->says("$label: MAILBOX", $box->apply(CBTest::Dialogue::delta($version, $l)));
    return;
}

for my $version (@VERSIONS) {
    subtest "within one user ($version)" => sub {
        my $u = 'rn' . $version =~ s/\W//gr;
        my ($inbox, $a, $b) = map { filled($_, 3) } "user.$u", "user.$u.A", "user.$u.B";
        for my $box ($inbox, $a, $b) {
            $t->says('GET', "GET USER $u");
            $t->says('content', $box->upload);
            $t->says('all', $box->apply(CBTest::Dialogue::header($version)));
        }
        my $l = $t->listing("USER $u");
        $t->says('rename', rename_box($a, "user.$u.C"));
        follow_up($version, $a, $l->{ $a->{uniqueid} }, 'plain');

        $l = $t->listing("USER $u");
        $t->says('partition', rename_box($a, "user.$u.C", partition => 'ssd'));
        is($t->listed($a)->{PARTITION}, 'ssd', 'the partition is echoed') if CBTest::Dialogue::asks_again($version);
        $a->{modseq}++;
        $t->says('MAILBOX', $a->apply(CBTest::Dialogue::delta($version, $l->{ $a->{uniqueid} }, 1), partition => 'ssd'));
        is($t->stored($a)->{partition}, 'ssd', 'and kept');

        $l = $t->listing("USER $u");
        $t->says('deleted, with delay', rename_box($b, "DELETED.user.$u.B.6553F3A0"));
        follow_up($version, $b, $l->{ $b->{uniqueid} }, 'delete');
        $l = $t->listing("USER $u");
        $t->says('undeleted', rename_box($b, "user.$u.B"));
        follow_up($version, $b, $l->{ $b->{uniqueid} }, 'undelete');

        # a chain: B to D, C to B
        $l = $t->listing("USER $u");
        $t->says('chain 1', rename_box($b, "user.$u.D"));
        $t->says('chain 2', rename_box($a, "user.$u.B"));
        follow_up($version, $b, $l->{ $b->{uniqueid} }, 'chain 1');
        $a->{modseq}++;
        my $la = CBTest::Dialogue::asks_again($version) ? $t->listed($a) : $l->{ $a->{uniqueid} };
        $t->says('chain 2: MAILBOX', $a->apply(CBTest::Dialogue::delta($version, $la, 1)));
        # in a circle, by way of another name, as 3.12 does it
        $l = $t->listing("USER $u");
        $t->says('swap 1', rename_box($a, "user.$u.Former"));
        $t->says('swap 2', rename_box($b, "user.$u.B"));
        $t->says('swap 3', rename_box($a, "user.$u.D"));
        my $now = $t->listing("USER $u");
        is($now->{ $a->{uniqueid} }{MBOXNAME}, "user.$u.D", 'swapped');
        is($now->{ $b->{uniqueid} }{MBOXNAME}, "user.$u.B", 'swapped');

        # an occupied target
        my $stale = filled("user.$u.E", 1);
        $stale->sync($t->{c});
        $l = $t->listing("USER $u");
        $t->says('onto one that is there', rename_box($a, "user.$u.E"));
        $now = $t->listing("USER $u");
        is($now->{ $a->{uniqueid} }{MBOXNAME}, "user.$u.E", 'renamed');
        is($now->{ $stale->{uniqueid} }, undef, 'the occupant is not listed');
        ok((grep { $_ eq "UNMAILBOX user.$u.E" } $t->file($u)), 'and the data file says that it ended');
        is($t->stored($stale), undef, 'the index too');

        $t->says('the same again', rename_box($inbox, "user.$u.E", only_say => 1) =~ s/OLDMBOXNAME \S+/OLDMBOXNAME user.$u.D/r);
        $t->says('from nowhere to nowhere', rename_box($inbox, "user.$u.Z", only_say => 1) =~ s/OLDMBOXNAME \S+/OLDMBOXNAME user.$u.Y/r, $NONE);
        my %before = map { $_->{uniqueid} => $t->uids($_) } $inbox, $a, $b;
        $t->rebuild($u);
        is($t->uids($_), $before{ $_->{uniqueid} }, "$_->{mboxname}: as before a rebuild") for $inbox, $a, $b;
    };

    subtest "to another user ($version)" => sub {
        my ($joe, $jim) = map { "$_" . $version =~ s/\W//gr } qw(joe jim);
        my ($x, $own) = (filled("user.$joe.X", 4), filled("user.$jim", 1));
        $_->sync($t->{c}) for $x, $own;
        my $from = $x->{mboxname};
        my $l = $t->listing("MAILBOXES ($from user.$jim user.$jim.Y)");
        $t->says('rename', rename_box($x, "user.$jim.Y"));
        is($t->stored($x, $joe), undef, 'it has ended for the old user');
        ok((grep { $_ eq "UNMAILBOX $from" } $t->file($joe)), 'and the data file says so');
        my $since = $x->{modseq};
        $x->append(message("$x->{uniqueid} later"));
        if (CBTest::Dialogue::asks_again($version)) {
            is($t->listing("MAILBOXES ($from user.$jim user.$jim.Y)")->{ $x->{uniqueid} }, undef,
                'it is not listed for the new one before all of it has come');
        } else {    # relative to the old listing, then in vain again, then by way of a promotion
            my %delta = CBTest::Dialogue::delta($version, $l->{ $x->{uniqueid} });
            $t->says('content', $x->upload($since));
            $t->says('a delta to what it was', $x->apply(%delta), $version eq '3.0' ? $CHECKSUM : $CHANGED);
            $t->says('without SINCE_*', $x->apply(CBTest::Dialogue::delta($version, $l->{ $x->{uniqueid} }, 1)), $CHECKSUM);
            $t->says('FULLMAILBOX', "GET FULLMAILBOX $x->{mboxname}", $NONE);
            is($t->stored($x), undef, 'nothing of that is kept');
            $t->says('RESTART', 'RESTART', 'OK Restarting');
            is($t->listing("USER $jim")->{ $x->{uniqueid} }, undef, 'it is not listed for the new one');
        }
        my $r = $t->says('RESERVE', "APPLY RESERVE %(PARTITION default MBOXNAME (user.$jim) GUID (" .
            join(' ', map { $_->{guid} } @{ $x->{records} }) . '))');
        is(scalar(() = $r->{lines}[0] =~ /[0-9a-f]{40}/g), 5, 'all content is wanted');
        $t->says('content', $x->upload);
        $t->says('all of it', $x->apply(CBTest::Dialogue::header($version)));
        is($t->uids($x), '1 2 3 4 5', 'the new user has it');
        is(scalar(grep { $t->has_content($x, $_) } @{ $x->{records} }), 5, 'with its content');
        my @past = grep { /UNIQUEID $x->{uniqueid} / } $t->file($joe);
        is(scalar @past, 1, 'the history stays with the old one');
        $t->says('the same rename again', rename_box($x, $x->{mboxname}, only_say => 1) =~ s/OLDMBOXNAME \S+/OLDMBOXNAME $from/r);

        # and back: what has been expunged and forgotten meanwhile does not come to life again
        splice @{ $x->{records} }, 1, 2;
        $x->{modseq}++;
        $l = $t->listing("MAILBOXES ($from $x->{mboxname})");
        $t->says('back', rename_box($x, $from));
        $t->again;
        is($t->listed($x), undef, 'not listed');
        $t->says('content', $x->upload);
        $t->says('all of it', $x->apply(CBTest::Dialogue::header($version)));
        is($t->uids($x), '1 2x 3x 4 5', 'what it had more is expunged');
        is($t->stored($x)->{computed_sync_crc}, $x->crc, 'the checksum is right');
        $t->rebuild($joe);
        is($t->uids($x), '1 2x 3x 4 5', 'and after a rebuild');
        is($t->listed($x)->{HIGHESTMODSEQ}, $x->{modseq}, 'it is listed');
    };

    subtest "a user is renamed ($version)" => sub {
        my ($old, $new) = map { "$_" . $version =~ s/\W//gr } qw(old new);
        my @box = map { filled("user.$old$_", 2) } '', '.A';
        $_->sync($t->{c}) for @box;
        $t->says('SUB', "APPLY SUB %(USERID $old MBOXNAME user.$old.A)");
        $t->says('SEEN', "APPLY SEEN %(USERID $old UNIQUEID x LASTREAD 1 LASTUID 1 LASTCHANGE 1 SEENUIDS 1)");
        $t->says('SIEVE', "APPLY SIEVE %(USERID $old FILENAME a.script LAST_UPDATE 1 CONTENT keep;)");
        $t->says('ACTIVATE', "APPLY ACTIVATE_SIEVE %(USERID $old FILENAME a.bc)");
        $t->says('QUOTA', "APPLY QUOTA %(ROOT user.$old LIMIT 10 STORAGE 10)");
        $t->says('server annotation', 'APPLY ANNOTATION %(MBOXNAME "" ENTRY /motd USERID "" VALUE hello)');
        $t->says('RESTART', 'RESTART', 'OK Restarting');
        # -u NEW: the server is asked about the new one only
        is_deeply($t->listing("USER $new"), {}, 'nothing is known of the new one');
        my @moved = map { bless { %{$_}, mboxname => $_->{mboxname} =~ s/$old/$new/r }, ref $_ } @box;
        for my $box (@moved) {
            $t->says('content', $box->upload);
            $t->says('the same UNIQUEID', $box->apply(CBTest::Dialogue::header($version)));
        }
        is($t->uids($_), '1 2', "$_->{mboxname} is complete") for @box, @moved;
        my $names = join ' ', map { $_->{mboxname} } @box, @moved;
        my $r = $t->says('asked for all', "GET MAILBOXES ($names)");
        is(scalar @{ $r->{lines} }, 2, 'each UNIQUEID is named once');
        if ($version =~ /3\.1|HEAD/) {    # whoever is still listed under the old name is renamed
            $t->says('RENAME', rename_box($_, $_->{mboxname} =~ s/$old/$new/r, only_say => 1)) for reverse @box;
            is_deeply($t->listing("USER $old"), {}, 'nothing under the old name');
        }
        $t->says('UNUSER', "APPLY UNUSER $old");
        $r = $t->says('what is left of the old one', "GET USER $old");
        is("@{ $r->{lines} }", '', 'nothing');
        my $state = $t->state($old);
        is_deeply([map { scalar @{ $state->{$_} } } qw(mailboxes subscriptions seen sieve quota)], [0, 0, 0, 0, 0], 'nothing is current');
        is(scalar(grep { /^MESSAGE / } $t->file($old)), 4, 'its mail is kept');
        is(scalar keys %{ $t->listing("USER $new") }, 2, 'the new one is as it was');
        $r = $t->says('GET ANNOTATION', 'GET ANNOTATION ""');
        is(scalar(grep { m{/motd} } @{ $r->{lines} }), 1, 'the server keeps its annotations');
        $t->says('UNUSER again', "APPLY UNUSER $old");
        # the old one comes back, with one of two messages
        pop @{ $box[1]{records} };
        $t->says('GET', "GET USER $old");
        $t->says('content', $box[1]->upload);
        $t->says('all', $box[1]->apply(CBTest::Dialogue::header($version)));
        is($t->uids($box[1]), '1 2x', 'as it is now');
        $t->rebuild($old);
        is_deeply([keys %{ $t->listing("USER $old") }], [$box[1]{uniqueid}], 'and that is all');
        $t->says('RESTART', 'RESTART', 'OK Restarting');
    };
}

subtest 'UNMAILBOX acts on the live one of that name' => sub {
    my @box = map { filled('user.um.A', 2) } 0 .. 2;
    for my $box (@box) {
        $t->says('GET', 'GET MAILBOXES (user.um.A)');
        $t->says('content', $box->upload);
        $t->says('all', $box->apply);
        $t->says('UNMAILBOX', 'APPLY UNMAILBOX user.um.A') if $box != $box[2];
    }
    is($t->uids($box[2]), '1 2', 'the last one lives');
    my $folders = $t->{site}->cyr_backup('um', 'list', 'mailboxes');
    is($folders->{rc}, 0, 'list mailboxes');
    $t->says('UNMAILBOX', 'APPLY UNMAILBOX user.um.A');
    $t->says('UNMAILBOX again', 'APPLY UNMAILBOX user.um.A', $NONE);
    $t->says('of an unknown user', 'APPLY UNMAILBOX user.nobody.A', $NONE);
    is(scalar(grep { $_ eq 'UNMAILBOX user.um.A' } $t->file('um')), 3, 'three lines');
    is(scalar(grep { /^MESSAGE / } $t->file('um')), 6, 'all mail is kept');
    # it comes back, changed
    $t->says('GET', 'GET MAILBOXES (user.um.A)');
    shift @{ $box[0]{records} };
    $t->says('all of the first', $box[0]->apply);
    is($t->uids($box[0]), '1x 2', 'the first one again, as it is now');
    ok($t->has_content($box[0], $box[0]{records}[0]), 'with its content, which was not sent again');
};

# Mailboxes are told one by one, under the names they have now, and first the one that took a name: what
# had it is told to be renamed, not deleted and created.
subtest 'a name is taken before the new one of its holder is told' => sub {
    my $site = $t->{site};
    my %box = map { $_ => filled("user.tk.$_", 2) } qw(A B C D);
    $_->sync($t->{c}) for @box{qw(A B C D)};
    my $lines = sub { return split /\n/, $site->cyr_backup('tk', 'log', @_)->{out} =~ s/^[^\t]*\t//mgr };
    my $told = scalar $lines->();
    my $tell = sub {
        my ($box, $name) = @_;
        $box->{mboxname} = "user.tk.$name";
        $box->{modseq}++;
        $t->says('GET', "GET MAILBOXES ($box->{mboxname})");
        $t->says('content', $box->upload);
        $t->says("as $name", $box->apply);
        return;
    };
    my %new = (A => filled('user.tk.A', 1));
    # A is E now, and there is another A
    $tell->($new{A}, 'A');
    $tell->($box{A}, 'E');
    my @want = ("mailbox-created\tuser.tk.A", "arrived\tuser.tk.A", "mailbox-renamed\tuser.tk.E\tfrom=user.tk.A");
    # B is C, C is F; and D and E change places
    $tell->($box{B}, 'C');
    $tell->($box{C}, 'F');
    push @want, "mailbox-renamed\tuser.tk.C\tfrom=user.tk.B", "mailbox-renamed\tuser.tk.F\tfrom=user.tk.C";
    $tell->($box{D}, 'E');
    $tell->($box{A}, 'D');
    push @want, "mailbox-renamed\tuser.tk.E\tfrom=user.tk.D", "mailbox-renamed\tuser.tk.D\tfrom=user.tk.E";
    my $now = sub { my @l = map { s/\tuid=.*//r } $lines->(); return @l[$told .. $#l] };
    is_deeply([$now->()], \@want, 'log');
    is_deeply([grep { /renamed/ } $lines->($box{A}{uniqueid})], [@want[2, 6]], 'log of one');
    is($t->uids($_), '1 2', "$_->{mboxname} has its mail") for values %box;
    $t->rebuild('tk');
    is_deeply([$now->()], \@want, 'log after a rebuild');
    # what the client said to be gone, and comes back, was not renamed
    $t->says('UNMAILBOX', 'APPLY UNMAILBOX user.tk.F');
    $tell->($box{C}, 'G');
    is_deeply([$now->()], [@want, "mailbox-deleted\tuser.tk.F", "mailbox-created\tuser.tk.G\tagain=1"],
        'deleted and created again');
    $t->says('RESTART', 'RESTART', 'OK Restarting');
};

subtest 'while somebody else has the lock' => sub {
    my ($x, $y) = map { filled($_, 1) } qw(user.lka.X user.lkb);
    $_->sync($t->{c}) for $x, $y;
    $t->says('RESTART', 'RESTART', 'OK Restarting');
    my %holder = map { $_ => CBTest::Holder->new($t->{site}->data_file($_)) } qw(lka lkb);
    my $rename = rename_box($x, 'user.lkb.X');
    $t->says('RENAME across, both held', $rename, $LOCKED);
    $holder{lkb}->release;
    $t->says('RENAME across, the old one held', $rename, $LOCKED);
    $t->says('UNMAILBOX', 'APPLY UNMAILBOX user.lka.X', $LOCKED);
    $t->says('UNUSER', 'APPLY UNUSER lka', $LOCKED);
    $t->says('GET MAILBOXES of several', 'GET MAILBOXES (user.lkb user.lka.X)', $LOCKED);
    is(scalar(grep { /^UN/ } $t->file('lka')), 0, 'nothing happened');
    $holder{lka}->release;
    $t->says('RENAME across', $rename);
};

done_testing;
