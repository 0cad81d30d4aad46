# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Notes - annotations of mailboxes, messages and of the server, shared and
# private, with everything that can be in a value; special uses; mailbox options.
package CBTest::Scenarios::Notes;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;

# Values that are awkward in one of the forms a string has on the wire or in the data file.
my @values = (
    'plain', '100%', '% per cent', 'a "quoted" word', 'back\\slash', "trailing\\", 'NIL', '', ' ', '()',
    '%(KEY value)', "Gr\xc3\xbc\xc3\x9fe", "\xff\xfe not UTF-8 \x80", "two\r\nlines", "only\nLF", "\r",
    '{5+}', "{5}\r\nAPPLY", "tab\there", "a\0NUL", "\0", "\x01\x1f\x7f", 'x' x 1022, 'x' x 1023,
    'x' x 1024, 'x' x 1025, ('0123456789 "\\%' x 400), "\xc3\xa4" x 30_000,
);

# SETMETADATA with a literal, whatever the value.
sub set_note
{
    my ($imap, $mailbox, $entry, $value) = @_;
    my $text = defined $value ? sprintf("{%d+}\r\n%s", length $value, $value) : 'NIL';
    my $name = $mailbox =~ /^[A-Za-z0-9.\/]+$/ ? $mailbox : "\"$mailbox\"";
    return $imap->raw('SETMETADATA', "$name ($entry $text)");
}

sub note_message
{
    my ($imap, $uids, $entry, %value) = @_;
    my $text = join ' ', map {
        my $v = $value{$_};
        "value.$_ " . (defined $v ? sprintf("{%d+}\r\n%s", length $v, $v) : 'NIL')
    } sort keys %value;
    return $imap->raw('UID STORE', "$uids ANNOTATION ($entry ($text))");
}

my @steps = (
    ['first folders with messages', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own($_)) for qw(Notes Plain);
        $c->fill('Notes', map { message() } 1 .. @values + 5);
        $c->{admin}->must(setacl => $c->adm('Notes'), $c->{reader}, 'lrswitn');
    }],
    ['shared annotations of every kind', sub {
        my ($c) = @_;
        set_note($c->{imap}, $c->own('Notes'), "/shared/vendor/test/v$_", $values[$_]) for 0 .. $#values;
    }],
    ['private annotations of every kind', sub {
        my ($c) = @_;
        set_note($c->{imap}, $c->own('Notes'), "/private/vendor/test/v$_", $values[$_]) for 0 .. $#values;
    }],
    ['private annotations of somebody else', sub {
        my ($c) = @_;
        my $reader = $c->{site}->imap_as($c->{reader});
        set_note($reader, $c->theirs('Notes'), '/private/comment', "mine, says $c->{reader}");
        set_note($c->{imap}, $c->own('Notes'), '/private/comment', "mine, says $c->{user}");
    }],
    ['annotations changed', sub {
        my ($c) = @_;
        set_note($c->{imap}, $c->own('Notes'), "/shared/vendor/test/v$_", $values[-1 - $_]) for 0 .. $#values;
    }],
    ['annotations removed', sub {
        my ($c) = @_;
        for my $n (grep { $_ % 2 } 0 .. $#values) {
            set_note($c->{imap}, $c->own('Notes'), "/$_/vendor/test/v$n", undef) for qw(shared private);
        }
    }],
    ['annotated folder renamed', sub {
        my ($c) = @_;
        $c->{imap}->must(rename => $c->own('Notes'), $c->own('Noted'));
    }],
    ['annotations of messages of every kind', sub {
        my ($c) = @_;
        $c->in_folder('Noted', sub {
            my ($imap) = @_;
            note_message($imap, $_ + 1, '/comment', shared => $values[$_], priv => $values[-1 - $_])
                for 0 .. $#values;
            note_message($imap, '1:3', '/altsubject', shared => 'another subject');
        });
    }],
    ['annotations of messages by somebody else', sub {
        my ($c) = @_;
        my $reader = $c->{site}->imap_as($c->{reader});
        $reader->must(select => $c->theirs('Noted'));
        note_message($reader, '1:5', '/comment', priv => 'also mine');
        note_message($reader, '4:7', '/altsubject', shared => 'their subject', priv => "100% \\ \"\r\n");
        $reader->must('unselect');
    }],
    ['annotated messages copied and moved', sub {
        my ($c) = @_;
        $c->in_folder('Noted', sub {
            my ($imap) = @_;
            $imap->must(copy => '1:8', $c->own('Plain'));
            $imap->raw('UID MOVE', '9:12 ' . $c->own('Plain'));
        });
    }],
    ['annotations of messages changed and removed', sub {
        my ($c) = @_;
        $c->in_folder('Noted', sub {
            my ($imap) = @_;
            note_message($imap, '1:4', '/comment', shared => undef, priv => 'changed');
            note_message($imap, '5:6', '/comment', shared => undef, priv => undef);
            note_message($imap, '*', '/comment', shared => 'x' x 5000);
        });
    }],
    ['annotated messages expunged', sub {
        my ($c) = @_;
        $c->expunge('Noted', '1:8');
    }],
    ['annotations of the server', sub {
        my ($c) = @_;
        set_note($c->{admin}, '', '/shared/comment', "of the server: 100% \"\\\"");
        set_note($c->{admin}, '', '/shared/vendor/test/v', $values[-1]);
        set_note($c->{imap}, '', '/private/comment', "Gr\xc3\xbc\xc3\x9fe");
        set_note($c->{imap}, '', '/private/vendor/test/v', 'gone soon');
    }],
    ['annotations of the server changed and removed', sub {
        my ($c) = @_;
        set_note($c->{admin}, '', '/shared/comment', 'of the server');
        set_note($c->{imap}, '', '/private/vendor/test/v', undef);
    }],
    ['folders made for a special use', sub {
        my ($c) = @_;
        $c->{imap}->raw('CREATE', $c->own("Special$_") . " (USE (\\$_))") for qw(Drafts Sent Trash);
        set_note($c->{imap}, $c->own('Plain'), '/private/specialuse', '\\Archive \\Important');
    }],
    ['special use changed, removed, folder renamed', sub {
        my ($c) = @_;
        set_note($c->{imap}, $c->own('Plain'), '/private/specialuse', '\\Junk');
        set_note($c->{imap}, $c->own('SpecialSent'), '/private/specialuse', undef);
        $c->{imap}->must(rename => $c->own('SpecialDrafts'), $c->own('Entw&APw-rfe'));
    }],
    ['folder with a special use deleted, the use given to another', sub {
        my ($c) = @_;
        set_note($c->{imap}, $c->own('SpecialTrash'), '/private/specialuse', undef);
        $c->{imap}->must(delete => $c->own('SpecialTrash'));
        $c->{imap}->raw('CREATE', $c->own('Papierkorb') . ' (USE (\\Trash))');
    }],
    ['options of a mailbox', sub {
        my ($c) = @_;
        my $prefix = '/shared/vendor/cmu/cyrus-imapd';
        set_note($c->{admin}, $c->adm('Plain'), "$prefix/$_->[0]", $_->[1])
            for ['sharedseen', 'true'], ['duplicatedeliver', 'true'], ['expire', '30'], ['squat', 'true'],
                ['sieve', 'main'], ['news2mail', 'list@example.org'], ['archive', '14'], ['delete', '60'];
        set_note($c->{admin}, $c->adm(''), "$prefix/pop3showafter", '01-Jan-2026 00:00:00 +0000');
    }],
    ['everybody sets \\Seen for all', sub {
        my ($c) = @_;
        $c->{admin}->must(setacl => $c->adm('Plain'), $c->{reader}, 'lrs');
        my $reader = $c->{site}->imap_as($c->{reader});
        $reader->must(select => $c->theirs('Plain'));
        $reader->must(store => '1:3', '+FLAGS', '(\\Seen)');
        $reader->must('unselect');
    }],
    ['options changed back', sub {
        my ($c) = @_;
        set_note($c->{admin}, $c->adm('Plain'), "/shared/vendor/cmu/cyrus-imapd/$_", undef)
            for qw(sharedseen duplicatedeliver expire squat);
    }],
);

sub steps { return @steps }

1;
